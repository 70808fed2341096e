"""The conversations that the router knows, and what its tiers' tokens measure. Nothing of what was said."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from math import exp, log
from typing import TYPE_CHECKING

from llmstack.policy.session_policy import after, continues, moved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from llmstack.policy.decision import Decision
    from llmstack.policy.facts import RequestFacts
    from llmstack.policy.session_policy import Session

MOST = 1000
OLDEST_S = 24 * 3600.0

LEAST_ESTIMATE = 64  # tokens; below, the chat template's own words outweigh what was sent
LOWEST, HIGHEST = 0.5, 8.0  # tokens per estimated token: dense prose and a model that reads bytes
_COUNTED = re.compile(rb'"n_prompt_tokens"\s*:\s*(\d{1,12})\b')
RISE, FALL = 0.5, 0.1  # weight of a new measurement: too small an estimate costs a failed request


@dataclass(slots=True)
class Sessions:
    """What the router remembers between requests, bounded in number and age."""

    clock: Callable[[], float] = time.monotonic
    factors: dict[str, float] = field(default_factory=dict)
    _known: OrderedDict[str, Session] = field(default_factory=OrderedDict)

    def key(self, name: str, opening: str, facts: RequestFacts) -> str:
        """Return what the conversation of a request is called here; empty where nothing tells it.

        Title calls and sub-agents under the same name have another opening, so they are other conversations.

        Args:
            name: as the client calls it, in a header or the body; may be empty.
            opening: digest of what stays the same while it grows.
            facts: of the request.
        """
        if not name and not opening:
            return ""
        if not name:
            return f"-{opening}"
        prefix = f"{_digest(name)}-"
        key = f"{prefix}{opening}"
        if key in self._known:
            return key
        same_name = (
            other
            for other, session in self._known.items()
            if other.startswith(prefix) and continues(session, facts)
        )
        return max(same_name, key=lambda other: self._known[other].size, default=key)

    def get(self, key: str) -> Session | None:
        """Return a conversation, where it is known."""
        return self._known.get(key)

    def remember(self, key: str, facts: RequestFacts, decision: Decision) -> None:
        """Note where the next request of a conversation goes."""
        if not key:
            return
        now = self.clock()
        self._known[key] = after(self._known.get(key), facts, decision, now)
        self._known.move_to_end(key)
        while len(self._known) > MOST or next(iter(self._known.values())).at < now - OLDEST_S:
            self._known.popitem(last=False)

    def served(self, key: str, tier: str) -> None:
        """Note which tier served in the end, where another one had to take over."""
        session = self._known.get(key)
        if session is not None and session.tier != tier:
            self._known[key] = moved(session, tier)

    def __len__(self) -> int:
        return len(self._known)

    def observe(self, tier: str, estimated: int, counted: int) -> None:
        """Learn from what a server counted for a prompt that was estimated."""
        if estimated < LEAST_ESTIMATE or counted <= 0:
            return
        measured = min(max(counted / estimated, LOWEST), HIGHEST)
        known = self.factors.get(tier)
        if known is None:
            self.factors[tier] = measured
            return
        weight = RISE if measured > known else FALL
        self.factors[tier] = exp((1 - weight) * log(known) + weight * log(measured))

    def overflowed(self, tier: str, estimated: int, room: int, counted: int | None = None) -> None:
        """Learn that what was estimated to fit into this many tokens did not: the next such request must not.

        Args:
            tier: that could not hold it.
            estimated: tokens of the prompt.
            room: that was thought to be there for it.
            counted: tokens of the prompt, where the server says so.
        """
        if estimated <= 0:
            return
        if counted is not None and counted > room:
            self.factors[tier] = min(counted / estimated, HIGHEST)
        else:  # the window is smaller than declared, or all that is known is that the prompt is larger
            least = min((room + 1) / estimated, HIGHEST)
            self.factors[tier] = max(self.factors.get(tier, 1.0), least)

    def forget(self, tiers: Iterable[str]) -> None:
        """Drop what was measured of tiers that changed: another model has another tokenizer."""
        for tier in tiers:
            self.factors.pop(tier, None)


def session_name(headers: Mapping[str, str], in_body: str | None) -> str:
    """Return what the client calls the conversation; empty where it does not say.

    opencode sends both headers to providers of its own making; some versions send none.
    """
    return headers.get("x-session-affinity") or headers.get("x-session-id") or in_body or ""


def counted_in(error: bytes) -> int | None:
    """Return the prompt's tokens as llama.cpp's context error says them, wherever in the body."""
    found = _COUNTED.search(error)
    return int(found[1]) if found else None


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()

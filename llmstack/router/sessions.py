"""The conversations that the router knows, and how many tokens its tiers count. Never what was said."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from math import exp, log
from typing import TYPE_CHECKING

from llmstack.policy.session_policy import may_continue, move_session, next_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from llmstack.policy.decision import Decision
    from llmstack.policy.facts import RequestFacts
    from llmstack.policy.session_policy import Session

MAX_SESSIONS = 1000
MAX_AGE_S = 24 * 3600.0

MIN_ESTIMATE = 64  # tokens; below that, the chat template outweighs the content
MIN_FACTOR, MAX_FACTOR = 0.5, 8.0  # tokens per estimated token: dense prose and a model that reads bytes
_PROMPT_TOKENS = re.compile(rb'"n_prompt_tokens"\s*:\s*(\d{1,12})\b')
RISE_WEIGHT, FALL_WEIGHT = (
    0.5,
    0.1,
)  # weight of a new measurement: too small an estimate costs a failed request


@dataclass(slots=True)
class Sessions:
    """What the router remembers between requests, limited in number and age.

    Attributes:
        factors: by tier, tokens that its server counts for one estimated token.
    """

    clock: Callable[[], float] = time.monotonic
    factors: dict[str, float] = field(default_factory=dict)
    _sessions: OrderedDict[str, Session] = field(default_factory=OrderedDict)

    def find_key(self, name: str, opening: str, facts: RequestFacts) -> str:
        """Return the key of a request's conversation; empty if nothing identifies it.

        Title requests and sub-agents under the same name have another opening: they are other conversations.

        Args:
            name: as the client calls it, in a header or the body; may be empty.
            opening: digest of the part that stays the same while the conversation grows.
            facts: of the request.
        """
        if not name and not opening:
            return ""
        if not name:
            return f"-{opening}"
        prefix = f"{_digest(name)}-"
        key = f"{prefix}{opening}"
        if key in self._sessions:
            return key
        same_name = (
            other
            for other, session in self._sessions.items()
            if other.startswith(prefix) and may_continue(session, facts)
        )
        return max(same_name, key=lambda other: self._sessions[other].size, default=key)

    def get(self, key: str) -> Session | None:
        """Return a conversation; None if it is not known."""
        return self._sessions.get(key)

    def remember(self, key: str, facts: RequestFacts, decision: Decision) -> None:
        """Remember the decision for the next request of the conversation."""
        if not key:
            return
        now = self.clock()
        self._sessions[key] = next_session(self._sessions.get(key), facts, decision, now)
        self._sessions.move_to_end(key)
        while (
            len(self._sessions) > MAX_SESSIONS
            or next(iter(self._sessions.values())).last_request_at < now - MAX_AGE_S
        ):
            self._sessions.popitem(last=False)

    def note_served(self, key: str, tier: str) -> None:
        """Note which tier served in the end: another one than chosen may have taken over."""
        session = self._sessions.get(key)
        if session is not None and session.tier != tier:
            self._sessions[key] = move_session(session, tier)

    def __len__(self) -> int:
        return len(self._sessions)

    def observe(self, tier: str, estimated: int, counted: int) -> None:
        """Learn from the tokens that a server counted for a prompt."""
        if estimated < MIN_ESTIMATE or counted <= 0:
            return
        measured = min(max(counted / estimated, MIN_FACTOR), MAX_FACTOR)
        factor = self.factors.get(tier)
        if factor is None:
            self.factors[tier] = measured
            return
        weight = RISE_WEIGHT if measured > factor else FALL_WEIGHT
        self.factors[tier] = exp((1 - weight) * log(factor) + weight * log(measured))

    def note_overflow(self, tier: str, estimated: int, room: int, counted: int | None = None) -> None:
        """Learn that a request that was estimated to fit did not, so that the next such request is not sent.

        Args:
            tier: the tier that could not hold it.
            estimated: tokens of the prompt.
            room: tokens of the tier's window for the prompt.
            counted: tokens of the prompt; None if the server did not say.
        """
        if estimated <= 0:
            return
        if counted is not None and counted > room:
            self.factors[tier] = min(counted / estimated, MAX_FACTOR)
        else:  # the window is smaller than declared, or the server did not say how large the prompt is
            least = min((room + 1) / estimated, MAX_FACTOR)
            self.factors[tier] = max(self.factors.get(tier, 1.0), least)

    def forget(self, tiers: Iterable[str]) -> None:
        """Drop the factors of tiers that changed: another model has another tokenizer."""
        for tier in tiers:
            self.factors.pop(tier, None)


def find_session_name(headers: Mapping[str, str], name_in_body: str | None) -> str:
    """Return the client's name for the conversation; empty if it sent none.

    The order is: `x-session-affinity`, `x-session-id`, the name in the body. opencode sends both headers to
    providers that it does not know; some versions send none.
    """
    return headers.get("x-session-affinity") or headers.get("x-session-id") or name_in_body or ""


def prompt_tokens_in(error: bytes) -> int | None:
    """Return the tokens of the prompt from llama.cpp's context error; None if the error does not say."""
    match = _PROMPT_TOKENS.search(error)
    return int(match[1]) if match else None


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()

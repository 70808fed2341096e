"""One request on its way to a tier."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.router.dialects.base import Dialect, ParsedRequest, Usage

_CLIENT_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RoutedRequest(msgspec.Struct):
    """One request on its way to a tier, and what became of it.

    Attributes:
        dialect: the client's API.
        requested_model: the model that the client named, or `auto`.
        tier: where it goes; `reason` says why.
        target: path and query at the server.
        body: as the client sent it; `parsed` is what it says.
        rewrites_body: its `model` is set to the server's name for it; else the body is not touched.
        is_large: work on its body belongs in the worker.
        reads_only: its method changes nothing, so no model is loaded or evicted for it.
        alternatives: tiers that may serve in its place, best first.
        session_key: of the conversation it belongs to; empty if it belongs to none.
        id: names this request in the log and in the response.
        received_at: when it arrived, in seconds of the monotonic clock.
        first_byte_s: seconds from arrival to the first byte of content; None before that.
        usage: tokens as the server counted them; `cost_usd` is their price as LiteLLM reports it.
        stream_complete: the client has the whole of a stream; some leave before the connection ends.
        outcome: `ok`, or the code of the failure; `origin` says who failed.
        notes: further headers of the response.
    """

    dialect: Dialect
    requested_model: str
    tier: str
    reason: str
    target: str
    body: bytes
    parsed: ParsedRequest
    rewrites_body: bool = True
    is_large: bool = False
    reads_only: bool = False
    alternatives: tuple[str, ...] = ()
    session_key: str = ""
    id: str = ""
    received_at: float = msgspec.field(default_factory=time.monotonic)
    first_byte_s: float | None = None
    usage: Usage | None = None
    cost_usd: float = 0.0
    stream_complete: bool = False
    outcome: str = "ok"
    origin: str = ""
    notes: list[tuple[str, str]] = []

    @property
    def wants_stream(self) -> bool:
        """Whether the client asked for server-sent events."""
        return self.parsed.stream

    @property
    def tokens(self) -> int:
        """The estimated conversation, in tokens."""
        return self.parsed.facts.conversation_tokens

    @property
    def rule(self) -> str:
        """The first word of the reason, which many requests share: `short`, `named`, `trigger`."""
        return self.reason.split(maxsplit=1)[0].rstrip(":;")

    def reroute(self, tier: str, why: str) -> None:
        """Send it to another tier, and say why."""
        previous = self.tier
        self.alternatives = tuple(other for other in self.alternatives if other != tier)
        self.tier, self.reason = tier, f"{self.reason}; {tier} serves: {previous} {why}"

    def use_stand_in(self, tier: str) -> None:
        """Let another tier serve while the chosen one loads; that one stays the first alternative."""
        loading = self.tier
        self.reroute(tier, "is not loaded yet")
        self.alternatives = (loading, *self.alternatives)

    def note_first_byte(self) -> None:
        """Note the first byte of content: from here on no other tier can take over."""
        if self.first_byte_s is None:
            self.first_byte_s = time.monotonic() - self.received_at

    def set_usage(self, usage: Usage | None) -> None:
        """Note the tokens of the answer, and their price unless it is known already."""
        self.usage = usage
        if usage is not None and not self.cost_usd:
            self.cost_usd = usage.cost_usd

    def mark_failed(self, code: str, origin: str) -> None:
        """Note that it failed, with the code of the failure and who failed."""
        self.outcome, self.origin = code, origin

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers that explain the decision, which every response has."""
        return [
            ("x-llmstack-tier", self.tier),
            ("x-llmstack-reason", to_ascii(self.reason)),
            ("x-llmstack-tokens", str(self.tokens)),
            ("x-request-id", self.id),
            *self.notes,
        ]

    @property
    def summary(self) -> str:
        """The decision in one line."""
        notes = "".join(f" {name.removeprefix('x-llmstack-')}={value}" for name, value in self.notes)
        return f"llmstack tier={self.tier} tokens={self.tokens}{notes} reason={to_ascii(self.reason)}"


class RequestIds:
    """Names requests: no two requests of this router, or of one started later, get the same id."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(4)
        self._count = itertools.count(1)

    def id_for(self, headers: Mapping[str, str]) -> str:
        """Return the client's own `x-request-id` if it sent a usable one, else a new id."""
        client_id = headers.get("x-request-id")
        if client_id is not None and _CLIENT_ID.fullmatch(client_id):
            return client_id
        return f"{self._prefix}{next(self._count):08x}"


def to_ascii(text: str) -> str:
    """Return text that can stand in a header, an SSE comment or a log: one line of printable ASCII."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if " " <= char <= "~" else "?" for char in text)

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

_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RoutedRequest(msgspec.Struct):
    """One request on its way to a tier, and what became of it.

    Attributes:
        asked: the model that the client named, or `auto`.
        tier: where it goes; `reason` why.
        others: tiers that may serve in its place, best first.
        target: path and query at the server.
        body: as the client sent it; `parsed` what it says.
        renames: its `model` is set to what the server calls it; else the body is not touched.
        session: the conversation it belongs to; empty where it belongs to none.
        id: names this request in the log and in the answer.
        first_byte_s: seconds from arrival to the first byte of content; None before that.
        usage: tokens, as the server counted them; `cost_usd` what LiteLLM says that they cost.
        told_all: the client has the whole of a stream; some leave before its connection's end.
        outcome: `ok`, or the code of the failure; `origin` who failed.
    """

    dialect: Dialect
    asked: str
    tier: str
    reason: str
    target: str
    body: bytes
    parsed: ParsedRequest
    renames: bool = True
    others: tuple[str, ...] = ()
    session: str = ""
    id: str = ""
    arrived: float = msgspec.field(default_factory=time.monotonic)
    first_byte_s: float | None = None
    usage: Usage | None = None
    cost_usd: float = 0.0
    told_all: bool = False
    outcome: str = "ok"
    origin: str = ""
    notes: list[tuple[str, str]] = []

    @property
    def streams(self) -> bool:
        """Whether the client wants server-sent events."""
        return self.parsed.stream

    @property
    def tokens(self) -> int:
        """The estimated conversation, in tokens."""
        return self.parsed.facts.conversation_tokens

    @property
    def rule(self) -> str:
        """The first words of the reason, the same for many requests: `short`, `named`, `trigger`."""
        return self.reason.split(maxsplit=1)[0].rstrip(":;")

    def move(self, tier: str, why: str) -> None:
        """Send it to another tier, and say why."""
        left = self.tier
        self.others = tuple(other for other in self.others if other != tier)
        self.tier, self.reason = tier, f"{self.reason}; {tier} serves: {left} {why}"

    def stand_in(self, tier: str) -> None:
        """Let another tier serve while the chosen one loads, which may still serve if that one fails."""
        loading = self.tier
        self.move(tier, "is not loaded yet")
        self.others = (loading, *self.others)

    def content_came(self) -> None:
        """Note the first byte of content: from here on no other tier can take over."""
        if self.first_byte_s is None:
            self.first_byte_s = time.monotonic() - self.arrived

    def counted(self, usage: Usage | None) -> None:
        """Note the tokens of the answer, and their price where that was not said before."""
        self.usage = usage
        if usage is not None and not self.cost_usd:
            self.cost_usd = usage.cost_usd

    def failed(self, code: str, origin: str) -> None:
        """Note what became of it."""
        self.outcome, self.origin = code, origin

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What every answer says of the decision."""
        return [
            ("x-llmstack-tier", self.tier),
            ("x-llmstack-reason", printable(self.reason)),
            ("x-llmstack-tokens", str(self.tokens)),
            ("x-request-id", self.id),
            *self.notes,
        ]

    @property
    def explained(self) -> str:
        """The same in one line."""
        notes = "".join(f" {name.removeprefix('x-llmstack-')}={value}" for name, value in self.notes)
        return f"llmstack tier={self.tier} tokens={self.tokens}{notes} reason={printable(self.reason)}"


class Ids:
    """Names requests: no two of this router, nor of one that is started later."""

    def __init__(self) -> None:
        self._start = secrets.token_hex(4)
        self._count = itertools.count(1)

    def of(self, headers: Mapping[str, str]) -> str:
        """Return the client's own `x-request-id` where it sent a usable one, else a new one."""
        sent = headers.get("x-request-id")
        if sent is not None and _ID.fullmatch(sent):
            return sent
        return f"{self._start}{next(self._count):08x}"


def printable(text: str) -> str:
    """Return text that can stand in a header, an SSE comment or a log: one line of ASCII."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if " " <= char <= "~" else "?" for char in text)

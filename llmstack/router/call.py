"""One request on its way to a tier."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmstack.router.dialects.base import Dialect


@dataclass(slots=True)
class Call:
    """One request on its way to a tier, and what became of it.

    Attributes:
        tier: where it goes; `reason` why, `tokens` its estimated conversation.
        target: path and query at the server.
        body: to send, `model` already set.
        streams: the client wants server-sent events.
        first_byte_s: seconds from arrival to the first byte of content; None before that.
        outcome: `ok`, or the code of the failure.
    """

    dialect: Dialect
    tier: str
    reason: str
    tokens: int
    target: str
    body: bytes
    streams: bool
    arrived: float = field(default_factory=time.monotonic)
    first_byte_s: float | None = None
    outcome: str = "ok"

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What every answer says of the decision."""
        return [
            ("x-llmstack-tier", self.tier),
            ("x-llmstack-reason", printable(self.reason)),
            ("x-llmstack-tokens", str(self.tokens)),
        ]

    @property
    def explained(self) -> str:
        """The same in one line."""
        return f"llmstack tier={self.tier} tokens={self.tokens} reason={printable(self.reason)}"


def printable(text: str) -> str:
    """Return text that can stand in a header, an SSE comment or a log: one line of ASCII."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if " " <= char <= "~" else "?" for char in text)

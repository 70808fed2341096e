"""What is kept of a request that ended, and its line in the log. Never what it said."""

from __future__ import annotations

import logging

import msgspec

from llmstack.router.routed_request import to_ascii

_log = logging.getLogger(__name__)


class AccessRecord(msgspec.Struct, frozen=True, gc=False):
    """One request that was served. `/llmstack/status` lists the last ones under these names.

    Attributes:
        id: as the response and the log name it.
        at: seconds since the epoch.
        asked: the model that the client requested.
        first_byte_s: seconds to the first byte of content; None if none came.
        total_s: seconds until it ended.
        outcome: `ok`, `client_gone`, or the code of the failure.
    """

    id: str
    at: float
    path: str
    asked: str
    tier: str
    reason: str
    tokens: int
    status: int
    first_byte_s: float | None
    total_s: float
    outcome: str

    def log(self) -> None:
        """Write it to the log as one line."""
        if _log.isEnabledFor(logging.INFO):
            line = (
                f"{self.id} {self.path} {self.asked} -> {self.tier} ({self.reason})"
                f" {self.status} {self.outcome} {self.tokens} tokens {self.total_s:.3f} s"
            )
            # `handle`, since `info` would search for the caller, which nothing shows.
            _log.handle(logging.LogRecord(_log.name, logging.INFO, "", 0, to_ascii(line), None, None))

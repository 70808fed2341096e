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
            # `handle`, since `info` would search for the caller.
            _log.handle(_AccessLogRecord(to_ascii(line), self.at))


class _AccessLogRecord(logging.LogRecord):
    """A line of the log.

    What nothing shows is empty for the whole class. The library's constructor would compute it for each line,
    which takes 10 000 instructions: 2 % of a chat of 2 KB (tests/benchmarks/instructions.py).
    """

    name, levelno, levelname, args = __name__, logging.INFO, "INFO", ()
    pathname = filename = module = funcName = ""  # noqa: N815 - the library's names
    lineno = 0
    exc_info = exc_text = stack_info = None
    thread = threadName = process = processName = taskName = None  # noqa: N815
    relativeCreated = 0.0  # noqa: N815

    def __init__(self, message: str, at: float) -> None:
        self.msg = message
        self.created = at
        self.msecs = at % 1 * 1000

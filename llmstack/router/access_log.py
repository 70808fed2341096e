"""What is kept of a request that ended, and its line in the log. Nothing of what it said."""

from __future__ import annotations

import logging

import msgspec

from llmstack.router.routed_request import printable


class AccessRecord(msgspec.Struct, frozen=True, gc=False):
    """One request that was served.

    Attributes:
        id: as the answer and the log name it.
        at: seconds since the epoch.
        asked: the model that was asked for.
        first_byte_s: seconds to the first byte of content; None where there was none.
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

    def line(self) -> str:
        """Return it in one line."""
        return printable(
            f"{self.id} {self.path} {self.asked} -> {self.tier} ({self.reason}) {self.status} {self.outcome}"
            f" {self.tokens} tokens {self.total_s:.3f} s"
        )


class Line(logging.LogRecord):
    """A record as the log has it; what is the same of all of them stands in the class."""

    name, levelno, levelname, args = __name__, logging.INFO, "INFO", ()
    pathname, filename, module, funcName, lineno = "", "", "", "", 0  # noqa: N815
    exc_info = exc_text = stack_info = None
    thread = threadName = process = processName = taskName = None  # noqa: N815 - the library's names
    relativeCreated = 0.0  # noqa: N815

    def __init__(self, record: AccessRecord) -> None:
        self.msg = record.line()
        self.created = record.at
        self.msecs = record.at % 1 * 1000

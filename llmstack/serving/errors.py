"""How a request fails: what a client is told, and the exceptions that carry it."""

from __future__ import annotations

import errno
from typing import Literal

import msgspec

from llmstack.errors import LlmstackError

Origin = Literal["router", "swapper", "engine", "provider"]


class FailureReport(msgspec.Struct, frozen=True, gc=False):
    """An error as the client is told it.

    Attributes:
        status: HTTP status.
        code: short stable name, such as `context_length_exceeded`.
        message: for people, the hint included.
        origin: who failed.
        retry_after: seconds; None if trying again is no use.
        allow: the methods that the path accepts, for a 405.
        needed: tokens that the request needs if no tier's window holds it; `window` is the largest one.
    """

    status: int
    code: str
    message: str
    origin: Origin = "router"
    retry_after: int | None = None
    allow: str | None = None
    needed: int | None = None
    window: int | None = None


OUT_OF_FILES = FailureReport(
    503,
    "too_many_open_files",
    "the router cannot open more files or connections; try again, or raise its limit (`ulimit -n`)",
    retry_after=5,
)


def is_out_of_files(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, says that no more files or sockets can be opened."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
            return True
        error = error.__cause__ or error.__context__
    return False


class RequestFailedError(Exception):
    """A request ends with an error that the client is told."""

    def __init__(self, report: FailureReport) -> None:
        super().__init__(report.message)
        self.report = report

    def __reduce__(self) -> tuple[type[RequestFailedError], tuple[FailureReport]]:
        """Return how to make a copy, for another process."""
        return RequestFailedError, (self.report,)


class TierUnavailableError(LlmstackError):
    """A tier cannot serve a request now.

    Args:
        message: what happened.
        retry_after: seconds after which a client may try again; None if trying again is no use.
        hint: the next step, if one helps.
    """

    def __init__(self, message: str, *, retry_after: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after

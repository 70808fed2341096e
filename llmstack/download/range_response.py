"""What a server's answer to a range request says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from llmstack.errors import LlmstackError

PASSING = {408, 425, 429}  # and every 5xx
EMPTY_RANGE = 416
SERVER_ERROR, CLIENT_ERROR = 500, 400
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class TransientError(Exception):
    """A failure that may be gone at the next try.

    Args:
        message: what happened.
        wait_s: how long the server asks to wait.
    """

    def __init__(self, message: str, *, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class ChangedError(Exception):
    """The file on the server is not the one that was begun."""


class DownloadRefusedError(LlmstackError):
    """The server will not give the file out; `status` says why."""

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def refuse(response: httpx.Response, name: str) -> None:
    """Raise for an answer that carries no bytes of the file.

    Raises:
        TransientError: asking again may help.
        DownloadRefusedError: it will not.
    """
    status = response.status_code
    if passing(status):
        wait_s = retry_after(response.headers.get("retry-after"))
        raise TransientError(f"the server answered {status} {response.reason_phrase}", wait_s=wait_s)
    if status == EMPTY_RANGE and response.headers.get("content-range") == "bytes */0":
        return
    if status == EMPTY_RANGE:
        raise ChangedError("the file on the server is shorter now: starting again")
    if status >= CLIENT_ERROR:
        raise DownloadRefusedError(
            f"{name}: {response.url.host} answered {status} {response.reason_phrase}", status=status
        )
    if response.url.scheme == "http" and any(hop.url.scheme == "https" for hop in response.history):
        raise DownloadRefusedError(
            f"{name}: redirected from https to {response.url.host} without it", status=status
        )


def passing(status: int) -> bool:
    """Return whether asking again may help."""
    return status in PASSING or status >= SERVER_ERROR


def retry_after(value: str | None) -> float | None:
    """Return seconds from a Retry-After header: a number, or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def content_range(response: httpx.Response, *, start: int) -> tuple[int, int]:
    """Return the end of the range that comes, exclusive, and the size of the whole file.

    Raises:
        TransientError: it is not the range that was asked for.
    """
    said = response.headers.get("content-range", "")
    found = _CONTENT_RANGE.fullmatch(said)
    if found is None or int(found[1]) != start:
        raise TransientError(f"asked for bytes from {start}, the server sends `{said}`")
    return int(found[2]) + 1, int(found[3])


def length(response: httpx.Response) -> int | None:
    """Return how many bytes come, where the server says so."""
    said = response.headers.get("content-length", "")
    return int(said) if said.isdigit() else None


def strong_etag(etag: str) -> bool:
    """Return whether two files with this tag are the same byte for byte; only such a tag suits If-Range."""
    return not etag.startswith("W/")


def describe(error: httpx.TransportError, *, stall_s: float) -> str:
    """Return what a broken connection looks like to a person."""
    if isinstance(error, httpx.ReadTimeout):
        return f"nothing came for {stall_s:g} s"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"no connection: {error}"
    return f"the connection broke: {error or type(error).__name__}"

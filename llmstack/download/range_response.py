"""Reading a server's response to a range request: status, headers, and what a broken connection means."""

from __future__ import annotations

import re
from http import HTTPStatus

import httpx

from llmstack.errors import LlmstackError
from llmstack.http_headers import parse_retry_after

RETRYABLE_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class TransientError(Exception):
    """A failure that the next try may not see.

    Args:
        message: what happened.
        wait_s: seconds the server asks to wait; None if it did not say.
    """

    def __init__(self, message: str, *, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class FileChangedError(Exception):
    """The file on the server is no longer the one whose download was started."""


class DownloadRefusedError(LlmstackError):
    """The server refuses to send the file; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def raise_for_status(response: httpx.Response, name: str) -> None:
    """Raise unless the response carries bytes of the file, or says that the file is empty.

    Raises:
        TransientError: trying again may help.
        FileChangedError: the file became shorter than the requested range.
        DownloadRefusedError: trying again does not help.
    """
    status = response.status_code
    if is_retryable(status):
        wait_s = parse_retry_after(response.headers.get("retry-after"))
        raise TransientError(f"the server answered {status} {response.reason_phrase}", wait_s=wait_s)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        if response.headers.get("content-range") == "bytes */0":
            return
        raise FileChangedError("the file on the server is shorter now: starting again")
    if status >= HTTPStatus.BAD_REQUEST:
        raise DownloadRefusedError(
            f"{name}: {response.url.host} answered {status} {response.reason_phrase}", status=status
        )
    if response.url.scheme == "http" and any(hop.url.scheme == "https" for hop in response.history):
        raise DownloadRefusedError(
            f"{name}: redirected from https to {response.url.host} over plain http", status=status
        )


def is_retryable(status: int) -> bool:
    """Return whether trying again may help: 408, 425, 429 and every 5xx."""
    return status in RETRYABLE_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def parse_content_range(response: httpx.Response, *, start: int) -> tuple[int, int]:
    """Return the exclusive end of the range in the response, and the size of the whole file.

    Raises:
        TransientError: the range does not begin at `start`, or the header is malformed.
    """
    header = response.headers.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(header)
    if match is None or int(match[1]) != start:
        raise TransientError(f"requested bytes from {start}, the server sends `{header}`")
    return int(match[2]) + 1, int(match[3])


def content_length(response: httpx.Response) -> int | None:
    """Return the length of the body in bytes; None if the server does not say."""
    header = response.headers.get("content-length", "")
    return int(header) if header.isdigit() else None


def is_strong_etag(etag: str) -> bool:
    """Return whether equal tags mean equal bytes; If-Range accepts only such a tag."""
    return not etag.startswith("W/")


def describe_error(error: httpx.TransportError, *, stall_s: float) -> str:
    """Return a sentence for a person about a broken connection."""
    if isinstance(error, httpx.ReadTimeout):
        return f"nothing was received for {stall_s:g} s"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"no connection: {error}"
    return f"the connection broke: {error or type(error).__name__}"

"""Reading responses from the bytes of one connection."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools

from llmstack.http_heads import remember_head
from llmstack.upstream.response_head import response_head

if TYPE_CHECKING:
    from llmstack.http_heads import ParsedHead
    from llmstack.upstream.response_head import ResponseHead

MAX_HEAD_BYTES = 128 * 1024
_WITHOUT_BODY = frozenset((HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED))


class ConnectionBrokenError(Exception):
    """The connection broke, or what came on it is not a response; the text says how.

    Attributes:
        silent: not a single byte of a response had come.
    """

    def __init__(self, text: str, *, silent: bool = False) -> None:
        super().__init__(text)
        self.silent = silent


class ResponseReader:
    """Reads responses, one at a time.

    Attributes:
        head: of the response, once it is complete.
        parts: of the body that nobody has taken yet; `waiting` is their size in bytes.
        started: a byte of the response has come; `complete`: all of it has.
        between_chunks: the body comes in chunks, and one has just ended.
        until_eof: the body ends with the connection.
    """

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._last_head: ParsedHead[ResponseHead] | None = None  # need not be parsed again
        self.parts: list[bytes] = []
        self.waiting = 0
        self.reset(no_body=False)

    def close(self) -> None:
        """Release the parser: it and this object refer to each other."""
        self._parser = None

    def reset(self, *, no_body: bool) -> None:
        """Expect the next response; with `no_body` (after HEAD) it has none whatever its headers say."""
        self.head: ResponseHead | None = None
        self.started = self.complete = self.between_chunks = self.until_eof = False
        self._no_body = no_body
        self._chunk_ended = False
        self._head_bytes = 0
        self._missing = 0  # bytes of a body that bypasses the parser, because its head was recognized
        self._first_data: bytes | None = None  # the start of the response, until its head is complete
        self._headers: list[tuple[str, str]] = []

    def feed(self, data: bytes) -> None:
        """Process bytes from the server.

        Raises:
            ConnectionBrokenError: they are not a response, or more than one.
        """
        last_head = self._last_head if not (self.started or self._no_body) else None
        if self._missing:
            self._feed_body(data)
        elif last_head is not None and (match := last_head.match(data)) is not None:
            self._missing, body_start = match
            self.head, self.started = last_head.value, True
            self._feed_body(data[body_start:])
        else:
            self._parse(data)

    def _feed_body(self, data: bytes) -> None:
        """Add a part of a body whose head was recognized; the parser judges what follows it."""
        part, rest = data[: self._missing], data[self._missing :]
        self._missing -= len(part)
        self.complete = not self._missing
        if part:
            self.parts.append(part)
            self.waiting += len(part)
        if rest:
            self._parse(rest)

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            return
        if self.head is None:
            self._first_data = None if self.started else data
            self._head_bytes += len(data)
        self.started = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise ConnectionBrokenError(f"what it sent is not HTTP ({_reason(error)})") from error
        # A chunk's size line ends with a line break too, but then `on_chunk_header` was called.
        self.between_chunks = self._chunk_ended and not self.complete and data.endswith(b"\r\n")
        if self.head is None and self._head_bytes > MAX_HEAD_BYTES:
            raise ConnectionBrokenError(f"the headers of its answer are longer than {MAX_HEAD_BYTES} bytes")

    def take(self) -> bytes:
        """Return the part of the body that came since the last call."""
        parts, self.parts, self.waiting = self.parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Start a response."""
        if self.complete:
            raise ConnectionBrokenError("more than one answer")
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers are ignored."""
        if self.head is None:
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Find out how the end of the body is marked."""
        parser = self._parser
        if parser is None:
            return
        status, first_data, self._first_data = parser.get_status_code(), self._first_data, None
        if status == HTTPStatus.SWITCHING_PROTOCOLS or status < HTTPStatus.CONTINUE:
            raise ConnectionBrokenError(f"status {status}")
        if status < HTTPStatus.OK:
            return  # 1xx: the response is still to come
        # After HEAD the parser waits for a body that does not come.
        keep_alive = parser.should_keep_alive() and not self._no_body
        self.head = response_head(status, self._headers, keep_alive=keep_alive)
        headers = dict(self._headers)  # of repeated headers the last one counts
        self._chunk_ended = _is_chunked(headers)
        has_body = not (self._no_body or status in _WITHOUT_BODY)
        self.until_eof = has_body and not ("content-length" in headers or self._chunk_ended)
        if self._no_body:
            self.complete = True
        elif first_data is not None and has_body and not self._chunk_ended:
            self._last_head = remember_head(first_data, self.head)

    def on_body(self, data: bytes) -> None:
        """Add a part of the body."""
        if self._no_body:
            raise ConnectionBrokenError("a body in answer to HEAD")
        self.parts.append(data)
        self.waiting += len(data)

    def on_chunk_header(self) -> None:
        """Note that a chunk starts."""
        self._chunk_ended = False

    def on_chunk_complete(self) -> None:
        """Note that a chunk has ended."""
        self._chunk_ended = True

    def on_message_complete(self) -> None:
        """Finish the response."""
        if self.head is not None:
            self.complete = True


def _is_chunked(headers: dict[str, str]) -> bool:
    return headers.get("transfer-encoding", "").rpartition(",")[2].strip().lower() == "chunked"


def _reason(error: Exception) -> str:
    cause = error.__context__
    return str(cause if isinstance(cause, ConnectionBrokenError) else error)

"""Reading requests from the bytes of one connection."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

import httptools

from llmstack.router.http.exchange import Exchange, RequestHead
from llmstack.router.http.request_body import RequestBody

if TYPE_CHECKING:
    from llmstack.router.http.connection import Connection
    from llmstack.router.http.head_cache import HeadCache
    from llmstack.router.http.limits import HttpLimits

FRAMING_BYTES = 16  # of chunk framing allowed for each byte of body: one-byte chunks take five
_BAD_TARGET_CHAR = re.compile(r"[^!-~]")
_VERSIONS = frozenset(("1.0", "1.1"))
_CONTENT_LENGTH = re.compile(r"\d{1,19}")


class BadHttpError(Exception):
    """What the client sent is not a request, or too much: the connection ends with this response."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


class RequestReader:
    """Reads requests, one after the other.

    Args:
        connection: gets each request; may answer it before its body is complete.
        limits: of what is accepted from a client.
        max_read: bytes that are fed at once at most.
        heads: heads that need not be parsed again.

    Attributes:
        receiving: the request whose body is arriving.
        in_head: a request has started, and its headers are not complete.
    """

    def __init__(self, connection: Connection, limits: HttpLimits, max_read: int, heads: HeadCache) -> None:
        self._connection = connection
        self._limits = limits
        self._max_read = max_read
        self._heads = heads
        self._message_start: memoryview | None = None  # what is fed, if it starts with a request
        self._skips_parser = False  # the head of the request whose body is arriving was recognized
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._head_size = self._header_count = self._framing_size = self._requests_started = 0
        self.receiving: Exchange | None = None
        self.in_head = False

    @property
    def _is_idle(self) -> bool:
        """Whether the next byte starts a request."""
        return self.receiving is None and not self.in_head

    def close(self) -> None:
        """Release the parser: it and this object refer to each other."""
        self._parser = None

    def feed(self, data: memoryview) -> None:
        """Process bytes from the client.

        Raises:
            BadHttpError: they are not a request, or too much of one.
        """
        while data and self._parser is not None:
            if self._skips_parser:
                data = self._feed_body(data)
            elif self._is_idle and (match := self._heads.find(data)) is not None:
                data = self._start_known(*match, data)
            else:
                self._parse(data)
                return

    def _start_known(self, head: RequestHead, length: int, body_start: int, data: memoryview) -> memoryview:
        """Start a request whose head was recognized; return what follows it."""
        end, limit = body_start + length, self._limits.body
        # Most requests arrive whole. Without the steps of one in pieces, a chat of 2 KB takes 2 % fewer
        # instructions (tests/benchmarks/instructions.py).
        if end <= len(data) and length <= limit:
            body = RequestBody(length, limit, bytes(data[body_start:end]))
            self._connection.on_headers(Exchange(self._connection, head, body))
            return data[end:]
        self._skips_parser = True
        self.receiving = Exchange(self._connection, head, RequestBody(length, limit))
        self._connection.on_headers(self.receiving)
        return self._feed_body(data[body_start:])

    def _feed_body(self, data: memoryview) -> memoryview:
        """Process the body of a request whose head was recognized; return what follows it."""
        exchange = self.receiving
        if exchange is None:
            raise RuntimeError("no request is arriving")
        part = data[: exchange.incoming.missing]
        if part:
            exchange.incoming.feed(bytes(part))
        if not exchange.incoming.missing:
            self.on_message_complete()
        return data[len(part) :]

    def _parse(self, data: memoryview) -> None:
        size, started_before = len(data), self._requests_started
        was_in_head, was_idle = self.in_head, self._is_idle
        self._message_start = data if was_idle else None
        while self._parser is not None and data:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self._feed_after_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                raise _bad_http(error) from error
        if self.in_head:
            started = self._requests_started - started_before
            # Otherwise it is not known where the head starts.
            if (was_in_head and started == 0) or (was_idle and started == 1):
                self._limit_head(size)
        elif self.receiving is not None:
            self._limit_framing(size)

    def body_buffer(self) -> memoryview | None:
        """Return where to read the arriving body to; None if there is none, or its length is unknown."""
        return self.receiving.incoming.buffer() if self.receiving is not None else None

    def on_buffer_filled(self, count: int) -> None:
        """Note that so many bytes were read into `body_buffer`."""
        exchange = self.receiving
        if exchange is not None:
            exchange.incoming.on_buffer_filled(count)
            if exchange.incoming.complete:
                if not self._skips_parser:
                    self._parser = httptools.HttpRequestParser(self)  # the old one still waits for this body
                self.on_message_complete()

    def give_up(self) -> Exchange | None:
        """Return the request whose body was arriving: the rest will not come."""
        broken, self.receiving, self._skips_parser = self.receiving, None, False
        if broken is not None:
            broken.incoming.give_up()
        return broken

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Start a request."""
        self._target = b""
        self._headers = {}
        self._head_size = self._header_count = self._framing_size = 0
        self._requests_started += 1
        self.in_head = True
        self._connection.on_request_start()

    def on_url(self, data: bytes) -> None:
        """Add a part of the target."""
        self._target += data
        if len(self._target) > self._limits.target:
            text = f"the target is longer than {self._limits.target} bytes"
            raise BadHttpError(HTTPStatus.REQUEST_URI_TOO_LONG, "uri_too_long", text)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers after a chunked body are ignored."""
        if self.receiving is not None:
            return
        headers, limits = self._headers, self._limits
        self._header_count += 1
        self._head_size += len(name) + len(value) + 4
        key = name.decode("latin-1").lower()
        if self._header_count > limits.headers or self._head_size > limits.head:
            raise _head_too_large(limits)
        if key == "host" and key in headers:
            raise _invalid("there is more than one Host")
        text = value.decode("latin-1").rstrip(" \t")  # RFC 9110, 5.5: white space around it is not part of it
        headers[key] = f"{headers[key]}, {text}" if key in headers else text  # RFC 9110, 5.3

    def on_headers_complete(self) -> None:
        """Hand the request over."""
        parser = self._parser
        if parser is None:
            return
        exchange = self._exchange(parser)
        if parser.should_upgrade() and ("transfer-encoding" in self._headers or exchange.incoming.too_large):
            raise _invalid("an Upgrade with such a body is not understood")
        if self._message_start is not None and not parser.should_upgrade():
            self._heads.add(self._message_start, exchange.head)
        self._message_start = None
        self.receiving, self.in_head = exchange, False
        self._connection.on_headers(exchange)

    def on_body(self, data: bytes) -> None:
        """Add a part of the body."""
        if self.receiving is not None:
            self._framing_size = max(0, self._framing_size - FRAMING_BYTES * len(data))
            self.receiving.incoming.feed(data)

    def on_message_complete(self) -> None:
        """Finish the request."""
        exchange = self.receiving
        if exchange is None or exchange.incoming.missing:
            return  # asked to upgrade, the parser takes the body for something else
        self.receiving, self._skips_parser = None, False
        exchange.incoming.finish()
        self._connection.on_request_end(exchange)

    def _exchange(self, parser: httptools.HttpRequestParser) -> Exchange:
        method, headers, version = parser.get_method().decode(), self._headers, parser.get_http_version()
        if version not in _VERSIONS:  # the parser also accepts 0.9 and 2.0
            raise _invalid(f"this is not HTTP/1.1: its version is {version}")
        target = _origin_form(self._target.decode("latin-1"))
        if method == "CONNECT" or target is None:
            raise _invalid("the target of a request is a path in printable ASCII, such as /v1/models")
        length: int | None = None
        if "transfer-encoding" not in headers:
            declared = headers.pop("content-length", "0")  # another request with this head has another one
            if not _CONTENT_LENGTH.fullmatch(declared):
                raise _invalid("Content-Length is no number")
            length = int(declared)
        path = target.partition("?")[0]
        head = RequestHead(
            method,
            target,
            unquote(path) if "%" in path else path,
            headers,
            version,
            parser.should_keep_alive(),
        )
        return Exchange(self._connection, head, RequestBody(length, self._limits.body))

    def _feed_after_upgrade(self, data: memoryview) -> memoryview:
        """Process the body of a request to upgrade to an unsupported protocol; return what follows it."""
        if self.receiving is None:
            return data
        incoming = self.receiving.incoming
        body = data[: incoming.missing]
        if body:
            incoming.feed(bytes(body))
        self.on_message_complete()
        return data[len(body) :]

    def _limit_head(self, size: int) -> None:
        """Refuse a head that does not end; the parser reports a header only once it is complete."""
        self._framing_size += size
        if self._framing_size > self._limits.head:
            raise _head_too_large(self._limits)

    def _limit_framing(self, size: int) -> None:
        """Refuse endless chunk extensions and trailers."""
        self._framing_size += size
        if self._framing_size > 2 * self._limits.head + self._max_read:
            raise _invalid("the chunks of the body are mostly not body")


def _invalid(text: str) -> BadHttpError:
    return BadHttpError(HTTPStatus.BAD_REQUEST, "invalid_http", text)


def _head_too_large(limits: HttpLimits) -> BadHttpError:
    text = f"the headers are longer than {limits.head} bytes or more than {limits.headers}"
    return BadHttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", text)


def _bad_http(error: httptools.HttpParserError) -> BadHttpError:
    cause = error.__context__
    return cause if isinstance(cause, BadHttpError) else _invalid(f"this is not HTTP/1.1: {error}")


def _origin_form(target: str) -> str | None:
    """Return path and query of a request target; None if it has none, or characters that no URL has."""
    if _BAD_TARGET_CHAR.search(target):
        return None
    if not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in {"http", "https"}:
            return target if target == "*" else None
        authority = re.split(r"[/?]", rest, maxsplit=1)[0]
        target = rest[len(authority) :]
        target = target if target.startswith("/") else f"/{target}"
    return target.partition("#")[0]

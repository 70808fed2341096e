"""Reading requests from the bytes of one connection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

import httptools

from llmstack.router.http.exchange import ConnectionWriter, Exchange, RequestHead
from llmstack.router.http.request_body import RequestBody

if TYPE_CHECKING:
    from llmstack.router.http.heads import Heads
    from llmstack.router.http.limits import HttpLimits

FRAMING = 16  # bytes that may go into marking a chunk, for each byte of body: one-byte chunks take five
_BAD_TARGET = re.compile(r"[^!-~]")
_LENGTH = re.compile(r"\d{1,19}")


class RefusedError(Exception):
    """What came is no request, or too much of one: the connection ends with this answer."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


class Taker(ConnectionWriter, Protocol):
    """Whoever takes the requests."""

    def begun(self) -> None:
        """A request begins."""

    def arrived(self, exchange: Exchange) -> None:
        """Its headers are here; its body may be on its way still."""

    def complete(self, exchange: Exchange) -> None:
        """The whole of it is here."""


class RequestReader:
    """Reads requests, one after the other.

    Args:
        taker: is given each; may answer it before its body is here.
        limits: what is taken of a client.
        unit: bytes that are fed at once at most.
        heads: that need not be parsed again.

    Attributes:
        reading: the request whose body is arriving.
        in_head: a request has begun, and its headers have not ended.
    """

    def __init__(self, taker: Taker, limits: HttpLimits, unit: int, heads: Heads) -> None:
        self._taker = taker
        self._limits = limits
        self._unit = unit
        self._heads = heads
        self._first: memoryview | None = None  # where what is fed begins with a request, until that is read
        self._unparsed = False  # the parser knows nothing of the request whose body is arriving
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._head_size = self._header_count = self._framing = self._messages = 0
        self.reading: Exchange | None = None
        self.in_head = False

    def close(self) -> None:
        """Let go of the parser, which knows this object as this object knows it."""
        self._parser = None

    def feed(self, data: memoryview) -> None:
        """Take what was read.

        Raises:
            RefusedError: it is no request, or too much of one.
        """
        while data and self._parser is not None:
            if self._unparsed:
                data = self._body(data)
            elif self.reading is None and not self.in_head and (found := self._heads.find(data)) is not None:
                data = self._known(*found, data)
            else:
                self._parse(data)
                return

    def _known(self, head: RequestHead, length: int, start: int, data: memoryview) -> memoryview:
        """Take a request whose head was read before; return what follows it."""
        end, limit = start + length, self._limits.body
        if end <= len(data) and length <= limit:
            self._taker.arrived(
                Exchange(self._taker, head, RequestBody(length, limit, bytes(data[start:end])))
            )
            return data[end:]
        self.reading, self._unparsed = Exchange(self._taker, head, RequestBody(length, limit)), True
        self._taker.arrived(self.reading)
        return data[start:]

    def _body(self, data: memoryview) -> memoryview:
        """Take a part of the body of such a request; return what follows it."""
        reading = self.reading
        if reading is None:
            raise RuntimeError("no request is arriving")
        part = data[: reading.incoming.missing]
        reading.incoming.feed(bytes(part))
        if not reading.incoming.missing:
            self.on_message_complete()
        return data[len(part) :]

    def _parse(self, data: memoryview) -> None:
        size, before = len(data), self._messages
        inside, between = self.in_head, self.reading is None and not self.in_head
        self._first = data if between else None
        while self._parser is not None and data:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self._beyond_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                raise _reason(error) from error
        if self.in_head:
            begun = self._messages - before
            if (inside and begun == 0) or (between and begun == 1):  # else where it begins is not known
                self._bound_head(size)
        elif self.reading is not None:
            self._bound_framing(size)

    def room(self) -> memoryview | None:
        """Return where to read the body to that is arriving; None where none is, or its end is not known."""
        return self.reading.incoming.room() if self.reading is not None else None

    def filled(self, count: int) -> None:
        """Note that so many bytes were read to where `room` said."""
        reading = self.reading
        if reading is not None:
            reading.incoming.fill(count)
            if reading.incoming.complete:
                if not self._unparsed:
                    self._parser = httptools.HttpRequestParser(self)  # the old one waits for this body still
                self.on_message_complete()

    def give_up(self) -> Exchange | None:
        """Return the request whose body was arriving: the rest will not come."""
        broken, self.reading, self._unparsed = self.reading, None, False
        if broken is not None:
            broken.incoming.give_up()
        return broken

    # From the parser

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._target = b""
        self._headers = {}
        self._head_size = self._header_count = self._framing = 0
        self._messages += 1
        self.in_head = True
        self._taker.begun()

    def on_url(self, data: bytes) -> None:
        """Take a part of the target."""
        self._target += data
        if len(self._target) > self._limits.target:
            raise RefusedError(414, "uri_too_long", f"the target is longer than {self._limits.target} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes after a chunked body is of no interest."""
        if self.reading is not None:
            return
        headers, limits = self._headers, self._limits
        self._header_count += 1
        self._head_size += len(name) + len(value) + 4
        key = name.decode("latin-1").lower()
        if self._header_count > limits.headers or self._head_size > limits.head:
            raise _too_long_a_head(limits)
        if key == "host" and key in headers:
            raise RefusedError(400, "invalid_http", "there is more than one Host")
        text = value.decode("latin-1").rstrip(" \t")  # blanks around it are no part of it (RFC 9110, 5.5)
        headers[key] = f"{headers[key]}, {text}" if key in headers else text  # as RFC 9110, 5.3 has it

    def on_headers_complete(self) -> None:
        """Hand the request over."""
        parser = self._parser
        if parser is None:
            return
        exchange = self._exchange(parser)
        if parser.should_upgrade() and ("transfer-encoding" in self._headers or exchange.incoming.too_large):
            raise RefusedError(400, "invalid_http", "an Upgrade with such a body is not understood")
        if self._first is not None and not parser.should_upgrade():
            self._heads.keep(self._first, exchange.head)
        self._first = None
        self.reading, self.in_head = exchange, False
        self._taker.arrived(exchange)

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        if self.reading is not None:
            self._framing = max(0, self._framing - FRAMING * len(data))
            self.reading.incoming.feed(data)

    def on_message_complete(self) -> None:
        """The whole request is here."""
        exchange = self.reading
        if exchange is None or exchange.incoming.missing:
            return  # asked to upgrade, the parser takes the body for something else
        self.reading, self._unparsed = None, False
        exchange.incoming.finish()
        self._taker.complete(exchange)

    def _exchange(self, parser: httptools.HttpRequestParser) -> Exchange:
        method, headers = parser.get_method().decode(), self._headers
        target = _origin_form(self._target.decode("latin-1"))
        if method == "CONNECT" or target is None:
            text = "the target of a request is a path in printable ASCII, such as /v1/models"
            raise RefusedError(400, "invalid_http", text)
        length: int | None = None
        if "transfer-encoding" not in headers:
            declared = headers.pop("content-length", "0")  # another request with this head has another
            if not _LENGTH.fullmatch(declared):
                raise RefusedError(400, "invalid_http", "Content-Length is no number")
            length = int(declared)
        path = target.partition("?")[0]
        head = RequestHead(
            method,
            target,
            unquote(path) if "%" in path else path,
            headers,
            parser.get_http_version(),
            parser.should_keep_alive(),
        )
        return Exchange(self._taker, head, RequestBody(length, self._limits.body))

    def _beyond_upgrade(self, data: memoryview) -> memoryview:
        """Take the body of a request that would upgrade to what is not spoken here; return what follows."""
        if self.reading is None:
            return data
        incoming = self.reading.incoming
        body = data[: incoming.missing]
        if body:
            incoming.feed(bytes(body))
        self.on_message_complete()
        return data[len(body) :]

    def _bound_head(self, size: int) -> None:
        """Refuse a head that does not end; the parser keeps what it has of a header to itself."""
        self._framing += size
        if self._framing > self._limits.head:
            raise _too_long_a_head(self._limits)

    def _bound_framing(self, size: int) -> None:
        """Refuse endless chunk extensions and trailers."""
        self._framing += size
        if self._framing > 2 * self._limits.head + self._unit:
            raise RefusedError(400, "invalid_http", "the chunks of the body are mostly not body")


def _too_long_a_head(limits: HttpLimits) -> RefusedError:
    text = f"the headers are longer than {limits.head} bytes or more than {limits.headers}"
    return RefusedError(431, "headers_too_large", text)


def _reason(error: httptools.HttpParserError) -> RefusedError:
    cause = error.__context__
    if isinstance(cause, RefusedError):
        return cause
    return RefusedError(400, "invalid_http", f"this is not HTTP/1.1: {error}")


def _origin_form(target: str) -> str | None:
    """Return path and query of a request target; None where it has none, or bytes that no URL has."""
    if _BAD_TARGET.search(target):
        return None
    if not target.startswith("/"):
        scheme, mark, rest = target.partition("://")
        if not mark or scheme.lower() not in {"http", "https"}:
            return target if target == "*" else None
        authority = re.split(r"[/?]", rest, maxsplit=1)[0]
        target = rest[len(authority) :]
        target = target if target.startswith("/") else f"/{target}"
    return target.partition("#")[0]

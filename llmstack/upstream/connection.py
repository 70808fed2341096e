"""One connection to a model server: a request is sent on it, its answer read as it comes."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import httptools

from llmstack.heads import seen
from llmstack.upstream.head import answer_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.heads import SeenHead
    from llmstack.upstream.head import AnswerHead

    Sink = Callable[[bytes], bool]  # takes a part of a body; False where it wants no more for now
    Relay = Callable[[bytes], bool]  # takes a chunk in its framing, or returns False: the sink is to have it

HEAD_BYTES = 128 * 1024  # of an answer
HIGH_BYTES = 256 * 1024  # of a body that nobody has taken yet; the server is held back there
_INFORMATION, _OK, _SWITCHING = 100, 200, 101
_BODILESS = frozenset((204, 304))


class BrokenError(Exception):
    """The connection broke, or what came on it was no answer; the text says how.

    Attributes:
        silent: not a byte of an answer had come.
    """

    def __init__(self, text: str, *, silent: bool = False) -> None:
        super().__init__(text)
        self.silent = silent


class ServerConnection(asyncio.Protocol):
    """One connection, for one request at a time.

    Args:
        lost: called once when it is gone.

    Attributes:
        complete: the whole answer is here.
        used: it has served a request before.
        idle_since: when it last ended one.
    """

    def __init__(self, lost: Callable[[ServerConnection], None]) -> None:
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._waiting_bytes = self._head_bytes = 0
        self._busy = self._paused = self._ready = self._until_eof = self._no_body = False
        self._missing = 0  # of a body that the parser knows nothing of
        self._first: bytes | None = None  # what an answer begins with, until its head is read
        self._seen: SeenHead[AnswerHead] | None = None  # the last one, which need not be parsed again
        self._head: AnswerHead | None = None
        self._headers: list[tuple[str, str]] = []
        self._error: BrokenError | None = None
        self._sink: Sink | None = None
        self._relay: Relay | None = None
        self._ending = b""
        self._chunk_ended = self._between = False  # chunks: seen by the parser; nothing has come since
        self.complete = False
        self.used = False
        self.idle_since = 0.0

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for an answer."""
        self._transport = self._parser = None
        self._ended(exc)
        self._lost(self)

    def eof_received(self) -> bool:
        """Take it as the end: a server that has said all it will say."""
        self._ended(None)
        return False

    def data_received(self, data: bytes) -> None:
        """Take what was read: nearly always it is one chunk of a stream, which the parser need not see."""
        try:
            if (
                self._between
                and data.endswith(self._ending)
                and data.startswith(_size_lines(len(data)))
                and self._relay is not None
                and self._relay(data)
            ):
                return
        except Exception as error:  # noqa: BLE001 - whoever waits for the end of the body is to see it
            self._refused(error)
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        if not self._busy or self._parser is None:
            self.abort()  # bytes that nobody asked for: it must not be used again
            return
        known = self._seen if not (self._head_bytes or self._no_body) else None
        if self._missing:
            self._take_body(self._parser, data)
        elif known is not None and (like := known.like(data)) is not None:
            self._missing, start = like
            self._head, self._ready, self._head_bytes = known.said, True, start
            self._take_body(self._parser, data[start:])
        else:
            self._parse(self._parser, data)
        if self._sink is not None and self._parts:
            self._hand_over(self._sink)
        if self._waiting_bytes > HIGH_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self._sink is None or self.complete or self._error is not None:
            self._wake()

    def _take_body(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        """Take a part of a body whose length is known; what follows it is for the parser to judge."""
        part, rest = data[: self._missing], data[self._missing :]
        self._missing -= len(part)
        self.complete = not self._missing
        if part:
            self._parts.append(part)
            self._waiting_bytes += len(part)
        if rest:
            self._parse(parser, rest)

    def _parse(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        if not self._ready:
            self._first = None if self._head_bytes else data
            self._head_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"what it sent is not HTTP ({_reason(error)})")
        # A size line ends in a line break too, but then the parser has seen it.
        self._between = self._chunk_ended and not self.complete and data.endswith(b"\r\n")
        if not self._ready and self._head_bytes > HEAD_BYTES:
            self._fail(f"the headers of its answer are longer than {HEAD_BYTES} bytes")

    # From the parser

    def on_message_begin(self) -> None:
        """Begin an answer."""
        if self.complete:
            raise BrokenError("more than one answer")
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are of no interest."""
        if not self._ready:
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """See what kind of answer it is."""
        parser = self._parser
        if parser is None:
            return
        status, first, self._first = parser.get_status_code(), self._first, None
        if status == _SWITCHING or status < _INFORMATION:
            raise BrokenError(f"status {status}")
        if status < _OK:
            return  # 1xx: the answer is still to come
        self._ready = True
        # After HEAD the parser waits for a body that does not come.
        head = answer_head(status, self._headers, keep=parser.should_keep_alive() and not self._no_body)
        self._head = head
        bodiless = self._no_body or status in _BODILESS
        said = dict(self._headers)  # of repeated ones the last, which tells
        chunked = said.get("transfer-encoding", "").rpartition(",")[2].strip().lower() == "chunked"
        self._chunk_ended = chunked
        self._until_eof = not (bodiless or "content-length" in said or chunked)
        if self._no_body:
            self.complete = True
        elif first is not None and not (bodiless or chunked):
            self._seen = seen(first, head)

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        if self._no_body:
            raise BrokenError("a body in answer to HEAD")
        self._parts.append(data)
        self._waiting_bytes += len(data)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._chunk_ended = False

    def on_chunk_complete(self) -> None:
        """A chunk has ended."""
        self._chunk_ended = True

    def on_message_complete(self) -> None:
        """The whole answer is here."""
        if self._ready:
            self.complete = True

    # For whoever asks

    @property
    def usable(self) -> bool:
        """Whether another request can be sent on it."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and self._error is None and not self._busy

    async def answer(self, head: bytes, *body: bytes | memoryview, no_body: bool) -> AnswerHead:
        """Send a request and wait for the head of its answer; the connection ends where there is none.

        Args:
            head: request line and headers.
            body: of the request, in parts.
            no_body: the answer to it has none whatever it says (HEAD).

        Raises:
            BrokenError: it broke before.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise BrokenError("it was closed", silent=True)
        self._busy, self._no_body = True, no_body
        self._ready = self.complete = self._until_eof = False
        self._head = None
        self._chunk_ended = self._between = False
        self._head_bytes = self._missing = 0
        if any(body):
            transport.writelines((head, *body))
        else:
            transport.write(head)
        try:
            while self._head is None and self._error is None:
                await self._wait()
        except BaseException:
            self.abort()
            raise
        if self._head is None:
            self.abort()  # else the rest of the request would still be sent
            raise self._error or BrokenError("there is no answer")
        return self._head

    async def part(self) -> bytes:
        """Return what has come of the body, waiting for some; empty at its end.

        Raises:
            BrokenError: it broke before its end.
        """
        while not self._parts:
            if self.complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        return self._taken()

    async def whole(self) -> bytes:
        """Return the rest of the body.

        Raises:
            BrokenError: it broke before its end.
        """
        if self.complete:
            return self._taken()
        parts = []
        while part := await self.part():
            parts.append(part)
        return b"".join(parts)

    async def pass_on(self, sink: Sink, relay: Relay | None = None, ending: bytes = b"") -> bool:
        """Hand the rest of the body to `sink` as it comes.

        That happens as soon as it is read: to wake a task for each part costs as much as to pass it on.

        Args:
            sink: takes what comes.
            relay: is first asked to take what is just one chunk, whose content ends with `ending`.
            ending: of those chunks.

        Returns:
            Whether that was all: False where `sink` wanted no more for now, and what comes meanwhile waits.

        Raises:
            BrokenError: it broke before its end.
        """
        if self._parts and not sink(self._taken()):
            return False
        self._sink, self._relay, self._ending = sink, relay, ending + b"\r\n"
        try:
            while not self.complete:
                if self._error is not None:
                    raise self._error
                await self._wait()
                if self._sink is None:
                    return False
        finally:
            self._sink = self._relay = None
        return True

    def _hand_over(self, sink: Sink) -> None:
        try:
            if sink(self._taken()):
                return
        except Exception as error:  # noqa: BLE001 - as above
            self._refused(error)
        self._sink = self._relay = None

    def _refused(self, error: Exception) -> None:
        self._sink = self._relay = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _taken(self) -> bytes:
        """Return what has come, and let more come."""
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self._waiting_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def release(self) -> bool:
        """End with this request; return whether the connection can serve another one."""
        self._parts, self._waiting_bytes = [], 0
        head, transport = self._head, self._transport
        keep = head is not None and head.keep and self.complete
        if keep and transport is not None and not transport.is_closing():
            self._busy, self.used = False, True
            self.idle_since = time.monotonic()
            if self._paused:
                self._paused = False
                transport.resume_reading()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Close it at once: that cancels the request at the server."""
        self._fail("it was closed")

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, text: str) -> None:
        if self._error is None:
            self._error = BrokenError(text)
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _ended(self, exc: Exception | None) -> None:
        """Judge an end of the connection: of an answer without a length it is the end."""
        if self._ready and self._until_eof and exc is None and self._error is None:
            self.complete = True
        elif self._error is None:
            how = f" ({type(exc).__name__})" if exc is not None else ""
            when = "in the middle of its answer" if self._head_bytes else "without an answer"
            self._error = BrokenError(f"the connection was closed {when}{how}", silent=not self._head_bytes)
        self._wake()


@lru_cache(maxsize=4096)
def _size_lines(length: int) -> tuple[bytes, ...]:
    """Return how the size of a chunk is written that takes so many bytes with its framing.

    Of one that has 16 bytes at least: so short a one may seem to end with what stands before it.
    """
    for digits in range(2, 8):
        line = b"%x\r\n" % max(0, length - digits - len(b"\r\n\r\n"))
        if len(line) == digits + len(b"\r\n"):
            return (line, line.upper())
    return ()


def _reason(error: Exception) -> str:
    return str(error.__context__ if isinstance(error.__context__, BrokenError) else error)

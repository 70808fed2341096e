"""One connection to a model server: a request is sent on it, its answer read as it comes."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from llmstack.upstream.response_reader import AnswerReader, BrokenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.upstream.response_head import AnswerHead

    Sink = Callable[[bytes], bool]  # takes a part of a body; False where it wants no more for now
    Relay = Callable[[bytes], bool]  # takes a chunk in its framing, or returns False: the sink is to have it

HIGH_BYTES = 256 * 1024  # of a body that nobody has taken yet; the server is held back there


class ServerConnection(asyncio.Protocol):
    """One connection, for one request at a time.

    Args:
        lost: called once when it is gone.

    Attributes:
        idle_since: when it last ended one.
    """

    def __init__(self, lost: Callable[[ServerConnection], None]) -> None:
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._waiter: asyncio.Future[None] | None = None
        self._busy = self._paused = False
        self._error: BrokenError | None = None
        self._sink: Sink | None = None
        self._relay: Relay | None = None
        self._ending = b""
        self.idle_since = 0.0

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for an answer."""
        self._transport = None
        self._reader.close()
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
                self._reader.between
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
        reader = self._reader
        if not self._busy:
            self.abort()  # bytes that nobody asked for: it must not be used again
            return
        try:
            reader.feed(data)
        except BrokenError as error:
            self._fail(error)
        if self._sink is not None and reader.parts:
            self._hand_over(self._sink)
        if reader.waiting > HIGH_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self._sink is None or reader.complete or self._error is not None:
            self._wake()

    # For whoever asks

    @property
    def usable(self) -> bool:
        """Whether another request can be sent on it."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and self._error is None and not self._busy

    @property
    def complete(self) -> bool:
        """Whether the whole answer is here."""
        return self._reader.complete

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
        reader, self._busy = self._reader, True
        reader.begin(no_body=no_body)
        if any(body):
            transport.writelines((head, *body))
        else:
            transport.write(head)
        try:
            while reader.head is None and self._error is None:
                await self._wait()
        except BaseException:
            self.abort()
            raise
        if reader.head is None:
            self.abort()  # else the rest of the request would still be sent
            raise self._error or BrokenError("there is no answer")
        return reader.head

    async def part(self) -> bytes:
        """Return what has come of the body, waiting for some; empty at its end.

        Raises:
            BrokenError: it broke before its end.
        """
        while not self._reader.parts:
            if self._reader.complete:
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
        if self._reader.complete:
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
        if self._reader.parts and not sink(self._taken()):
            return False
        self._sink, self._relay, self._ending = sink, relay, ending + b"\r\n"
        try:
            while not self._reader.complete:
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
        data = self._reader.take()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def release(self) -> bool:
        """End with this request; return whether the connection can serve another one."""
        reader, transport = self._reader, self._transport
        if reader.parts:
            reader.take()  # nobody wants the rest
        keep = reader.head is not None and reader.head.keep and reader.complete
        if keep and transport is not None and not transport.is_closing():
            self._busy = False
            self.idle_since = time.monotonic()
            if self._paused:
                self._paused = False
                transport.resume_reading()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Close it at once: that cancels the request at the server."""
        self._fail(BrokenError("it was closed"))

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: BrokenError) -> None:
        if self._error is None:
            self._error = error
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _ended(self, exc: Exception | None) -> None:
        """Judge an end of the connection: of an answer without a length it is the end."""
        reader = self._reader
        if reader.until_eof and exc is None and self._error is None:
            reader.complete = True
        elif self._error is None:
            how = f" ({type(exc).__name__})" if exc is not None else ""
            when = "in the middle of its answer" if reader.begun else "without an answer"
            self._error = BrokenError(f"the connection was closed {when}{how}", silent=not reader.begun)
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

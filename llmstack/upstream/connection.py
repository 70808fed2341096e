"""One connection to a model server: sends a request, reads the response as it comes."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from llmstack.upstream.response_reader import ConnectionBrokenError, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.upstream.response_head import ResponseHead

    Sink = Callable[[bytes], bool]  # gets a part of a body; returns False if it cannot accept more for now
    Relay = Callable[[bytes], bool]  # gets a framed chunk; returns False if the sink must get it instead

MAX_WAITING_BYTES = 256 * 1024  # of a body that nobody has taken yet; then reading is paused


class ServerConnection(asyncio.Protocol):
    """One connection, for one request at a time.

    Args:
        on_lost: called once when the connection is closed.

    Attributes:
        idle_since: when the last request ended, in seconds of the monotonic clock.
    """

    def __init__(self, on_lost: Callable[[ServerConnection], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._reader = ResponseReader()
        self._waiter: asyncio.Future[None] | None = None
        self._busy = self._paused = False
        self._error: ConnectionBrokenError | None = None
        self._sink: Sink | None = None
        self._relay: Relay | None = None
        self._ending = b""
        self.idle_since = 0.0

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the task that waits for a response."""
        self._transport = None
        self._reader.close()
        self._on_closed(exc)
        self._on_lost(self)

    def eof_received(self) -> bool:
        """Take it as the end of the response."""
        self._on_closed(None)
        return False

    def data_received(self, data: bytes) -> None:
        """Process what was read.

        Most often it is exactly one chunk of a stream, which can be relayed with its framing.
        That saves parsing and framing it: 37 % of the router's instructions for a stream of 100 chunks
        (tests/benchmarks/instructions.py).
        """
        try:
            if (
                self._reader.between_chunks
                and data.endswith(self._ending)
                and data.startswith(_size_lines(len(data)))
                and self._relay is not None
                and self._relay(data)
            ):
                return
        except Exception as error:  # noqa: BLE001 - the task that waits for the end of the body gets it
            self._fail_sink(error)
            return
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        reader = self._reader
        if not self._busy:
            self.abort()  # nothing was requested: the connection must not be used again
            return
        try:
            reader.feed(data)
        except ConnectionBrokenError as error:
            self._fail(error)
        if self._sink is not None and reader.parts:
            self._feed_sink(self._sink)
        if reader.waiting > MAX_WAITING_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self._sink is None or reader.complete or self._error is not None:
            self._wake()

    # Called by the client

    @property
    def usable(self) -> bool:
        """Whether another request can be sent on this connection."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and self._error is None and not self._busy

    @property
    def complete(self) -> bool:
        """Whether the whole response is here."""
        return self._reader.complete

    async def request(self, head: bytes, *body: bytes | memoryview, no_body: bool) -> ResponseHead:
        """Send a request and wait for the head of the response; close the connection if none comes.

        Args:
            head: request line and headers.
            body: of the request, in parts.
            no_body: the response has no body whatever its headers say (after HEAD).

        Raises:
            ConnectionBrokenError: the connection broke before that.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionBrokenError("it was closed", silent=True)
        reader, self._busy = self._reader, True
        reader.reset(no_body=no_body)
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
            raise self._error or ConnectionBrokenError("there is no answer")
        return reader.head

    async def part(self) -> bytes:
        """Wait for the next part of the body; empty at its end.

        Raises:
            ConnectionBrokenError: it broke before its end.
        """
        while not self._reader.parts:
            if self._reader.complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        return self._take()

    async def whole(self, limit: int) -> bytes:
        """Return the rest of the body; if it is longer than `limit` bytes, a part of it that is, too.

        Raises:
            ConnectionBrokenError: it broke before its end.
        """
        if self._reader.complete:
            return self._take()
        parts, size = [], 0
        while size <= limit and (part := await self.part()):
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    async def pass_on(self, sink: Sink, relay: Relay | None = None, ending: bytes = b"") -> bool:
        """Hand the rest of the body to `sink` as it comes.

        `sink` is called from the event loop: waking a task for each part would cost as much as passing it on.

        Args:
            sink: gets each part.
            relay: gets it first if it is exactly one chunk whose content ends with `ending`.
            ending: see `relay`.

        Returns:
            Whether that was all: False if `sink` cannot accept more for now; what comes meanwhile waits.

        Raises:
            ConnectionBrokenError: it broke before its end.
        """
        if self._reader.parts and not sink(self._take()):
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

    def _feed_sink(self, sink: Sink) -> None:
        try:
            if sink(self._take()):
                return
        except Exception as error:  # noqa: BLE001 - as above
            self._fail_sink(error)
        self._sink = self._relay = None

    def _fail_sink(self, error: Exception) -> None:
        self._sink = self._relay = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _take(self) -> bytes:
        """Return the part of the body that has come, and continue to read."""
        data = self._reader.take()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def release(self) -> bool:
        """End this request; return whether the connection can serve another one."""
        reader, transport = self._reader, self._transport
        if reader.parts:
            reader.take()  # nobody needs the rest
        keep = reader.head is not None and reader.head.keep_alive and reader.complete
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
        """Close the connection at once, which cancels the request at the server."""
        self._fail(ConnectionBrokenError("it was closed"))

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: ConnectionBrokenError) -> None:
        if self._error is None:
            self._error = error
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _on_closed(self, exc: Exception | None) -> None:
        """Find out what a closed connection means: for a response without a length it is the end."""
        reader = self._reader
        if reader.until_eof and exc is None and self._error is None:
            reader.complete = True
        elif self._error is None:
            how = f" ({type(exc).__name__})" if exc is not None else ""
            when = "in the middle of its answer" if reader.started else "without an answer"
            self._error = ConnectionBrokenError(
                f"the connection was closed {when}{how}", silent=not reader.started
            )
        self._wake()


@lru_cache(maxsize=4096)
def _size_lines(length: int) -> tuple[bytes, ...]:
    """Return the possible size lines of a chunk that takes `length` bytes with its framing.

    Only for chunks of at least 16 bytes: the content of a shorter one is not told from its size line.
    """
    for digits in range(2, 8):
        line = b"%x\r\n" % max(0, length - digits - len(b"\r\n\r\n"))
        if len(line) == digits + len(b"\r\n"):
            return (line, line.upper())
    return ()

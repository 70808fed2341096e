"""One client's connection: requests are read from it and answered one after the other."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Protocol, cast

from llmstack.router.http.request_reader import RefusedError, RequestReader

if TYPE_CHECKING:
    from llmstack.router.http.exchange import Exchange
    from llmstack.router.http.heads import Heads
    from llmstack.router.http.limits import HttpLimits


class Host(Protocol):
    """What a connection needs of the server it belongs to."""

    limits: HttpLimits
    heads: Heads

    @property
    def buffer(self) -> memoryview:
        """Where a connection reads to."""

    @property
    def stopping(self) -> bool:
        """Whether no further request is taken."""

    def joined(self, connection: Connection) -> bool:
        """Count a connection; False where there are too many."""

    def parted(self, connection: Connection) -> None:
        """Forget a connection."""

    def handle(self, connection: Connection, exchange: Exchange) -> None:
        """Answer a request, in a task of its own."""

    def refusal(self, status: int, code: str, text: str) -> bytes:
        """Return the whole answer to what is no HTTP or too much of it."""


class Phase(Enum):
    """What a connection waits for."""

    IDLE = "a request"
    HEAD = "the rest of its headers"
    BODY = "the rest of its body"
    ANSWER = "the answer"
    LINGER = "the client to have read why"


IDLE, HEAD, BODY, ANSWER, LINGER = Phase  # before Python 3.12 a member of an Enum is slow to look up


class Connection(asyncio.BufferedProtocol):
    """The server's side of one connection."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._limits = host.limits
        self._buffer = host.buffer
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(self, host.limits, len(self._buffer), host.heads)
        self._current: Exchange | None = None  # being answered
        self._queue: deque[Exchange] = deque()  # pipelined after the current one
        self._last_word = b""  # what is sent after them all
        self._direct = False  # the last buffer given out was the body's own
        self._paused = self._held = self._eof = False
        self._resumed: asyncio.Future[None] | None = None
        self._paused_at = 0.0
        self.phase = IDLE
        self._since = 0.0

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._since = time.monotonic()
        if not self._host.joined(self):
            self.send(self._host.refusal(503, "too_many_connections", "the router has too many connections"))
            self._linger()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a client may leave as it likes
        """Let go of everything."""
        self._host.parted(self)
        self._transport = None
        self._reader.close()
        del self._reader  # it knows this object, as this object knew it
        self._leave()
        self._current = None  # and so do this one, and those behind it
        self._queue.clear()
        self.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - a hint
        """Return where to read to: the body itself where one is arriving, else what all connections share."""
        reader = self._reader
        room = reader.room() if reader.reading is not None and self.phase is not LINGER else None
        self._direct = room is not None
        return room if room is not None else self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self._direct:
            self._reader.filled(nbytes)
        elif self.phase is not LINGER and not self._last_word:
            self._feed(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        """Note that the client sends no more; what costs a model time ends, what is at hand is still sent."""
        self._eof = True
        waiting = self._current is not None and self.phase is not LINGER
        self._leave()
        return waiting

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than it is written to."""
        self._paused = True
        self._paused_at = time.monotonic()

    def resume_writing(self) -> None:
        """Go on writing."""
        self._paused = False
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        if self._current is None and self.phase is not LINGER:
            self._next()

    # From the reader

    def _feed(self, data: memoryview) -> None:
        try:
            self._reader.feed(data)
        except RefusedError as refused:
            self._refuse(refused.status, refused.code, refused.text)
            return
        if self._queue and not self._held and self._transport is not None:
            self._held = True
            self._transport.pause_reading()

    def begun(self) -> None:
        """A request begins."""
        if self._current is None and not self._paused:
            self._enter(HEAD)

    def arrived(self, exchange: Exchange) -> None:
        """The headers of a request are here; its body may be on its way still."""
        if self._current is None and not self._paused and not self._queue:
            self._answer(exchange)
            self._enter(ANSWER if exchange.incoming.complete else BODY)
        else:
            self._queue.append(exchange)
            if self._current is None:
                self._enter(ANSWER)  # it waits for its client, who has the last one to read

    def complete(self, exchange: Exchange) -> None:
        """The whole of a request is here."""
        if exchange is self._current:
            self._enter(ANSWER)

    # Answering

    def _answer(self, exchange: Exchange) -> None:
        self._current = exchange
        if self._eof:
            exchange.leave()
        self._host.handle(self, exchange)

    def _next(self) -> None:
        """Answer the next of the requests that are here already, once the client has read the last answer."""
        if self._paused or self._transport is None or self._transport.is_closing():
            return
        if self._queue:
            exchange = self._queue.popleft()
            self._answer(exchange)
            self._enter(ANSWER if exchange.incoming.complete else BODY)
        elif self._last_word:
            self.send(self._last_word)
            self._linger()
        elif self._eof:
            self._transport.close()
        else:
            self._enter(HEAD if self._reader.in_head else IDLE)
        if self._held and not self._queue:
            self._held = False
            self._transport.resume_reading()

    def _enter(self, phase: Phase) -> None:
        if self.phase is not LINGER:
            self.phase = phase
            self._since = time.monotonic()

    def _leave(self) -> None:
        for exchange in (self._current, *self._queue):
            if exchange is not None:
                exchange.leave()

    def _refuse(self, status: int, code: str, text: str) -> None:
        """Say why this is no request of HTTP, after the answers to those before it."""
        word = self._host.refusal(status, code, text)
        broken = self._reader.give_up()
        if broken is not None and broken in self._queue:
            self._queue.remove(broken)
        if self._current is not None and broken is not self._current:
            self._last_word = word
            return
        if self._current is None or not self._current.started:
            self.send(word)
        if self._current is not None:
            self._current.ended = True
        self._linger()

    def _linger(self) -> None:
        """End the connection once the client had time to read; closed at once, it would see a reset."""
        transport = self._transport
        self._enter(LINGER)
        self._current = None
        self._queue.clear()
        if transport is None or transport.is_closing():
            return
        if self._eof or self._held or not transport.can_write_eof():
            transport.close()
        else:
            try:
                transport.write_eof()
            except OSError:  # the client has reset the connection, and the event loop does not know yet
                transport.abort()

    # For an exchange

    def send(self, *parts: bytes) -> None:
        """Write; nothing happens where the client has left."""
        transport = self._transport
        if transport is None or self.phase is LINGER or transport.is_closing():
            return
        if len(parts) == 1:
            transport.write(parts[0])
        else:
            transport.writelines(parts)

    def relay(self, data: bytes) -> bool:
        """Write in the middle of an answer; return False where the client does not read, or has left."""
        if self._paused or self._current is None or self._transport is None:
            return False
        self._transport.write(data)
        return True

    @property
    def congested(self) -> bool:
        """Whether the client does not read."""
        return self._paused and self._transport is not None

    async def drained(self) -> None:
        """Wait while the client does not read."""
        while self.congested:
            self._resumed = asyncio.get_running_loop().create_future()
            await self._resumed

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Whether the connection stays open after this answer."""
        last = (self._eof or self._host.stopping) and not self._queue
        return exchange.persistent and exchange.incoming.complete and not last

    def answered(self, exchange: Exchange) -> None:
        """Go on to the next request, or end the connection."""
        if exchange is not self._current:
            return
        self._current = None
        transport = self._transport
        if transport is None:
            return
        if not exchange.incoming.complete:
            self._linger()
        elif not exchange.persistent or (self._host.stopping and not self._queue):
            transport.close()
        else:
            self._next()

    def cut(self, exchange: Exchange) -> None:
        """End the connection in the middle of an answer, so that it does not look whole."""
        if exchange is self._current and self._transport is not None:
            self._current = None
            self._transport.abort()

    # For the server

    def stop(self) -> None:
        """Close it where it waits for a request."""
        if self._transport is not None and self._current is None:
            self._transport.close()

    def abort(self) -> None:
        """Cut it."""
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float) -> None:
        """Cut what takes too long."""
        limits, waited = self._limits, now - self._since
        if self._paused and now - self._paused_at > limits.stalled_s:
            self.abort()
        elif self.phase is IDLE and waited > limits.idle_s:
            self.stop()
        elif self.phase is HEAD and waited > limits.head_s:
            self._refuse(408, "request_timeout", "the headers did not arrive in time")
        elif self.phase is LINGER and waited > limits.linger_s:
            self.abort()
        elif self.phase is BODY and waited > self._body_s():
            self._refuse(408, "request_timeout", "the body did not arrive in time")

    def _body_s(self) -> float:
        """Return the seconds that the body may take, for as much of it as is here."""
        reading = self._reader.reading
        received = reading.incoming.received if reading is not None else 0
        return self._limits.body_s + received / self._limits.body_rate

"""One client's connection: reads requests from it and answers them one after the other."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, cast

from llmstack.router.http.request_reader import BadHttpError, RequestReader

if TYPE_CHECKING:
    from llmstack.router.http.exchange import Exchange
    from llmstack.router.http.server import Server


Phase = Literal["idle", "head", "body", "response", "linger"]  # what a connection waits for


class Connection(asyncio.BufferedProtocol):
    """The server's side of one connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._limits = server.limits
        self._buffer = server.buffer
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(self, server.limits, len(self._buffer), server.heads)
        self._current: Exchange | None = None  # the request being answered
        self._queue: deque[Exchange] = deque()  # pipelined after the current one
        self._final_error = b""  # sent after the responses to all of them
        self._reads_body = False  # the last buffer given to the event loop is the body's own
        self._write_paused = self._read_paused = self._eof = False
        self._resumed: asyncio.Future[None] | None = None
        self._write_paused_at = 0.0
        self.phase: Phase = "idle"
        self._since = 0.0

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register with the server."""
        self._transport = cast("asyncio.Transport", transport)
        self._since = time.monotonic()
        if not self._server.register(self):
            status = HTTPStatus.SERVICE_UNAVAILABLE
            text = "the router has too many connections"
            self.send(self._server.error_response(status, "too_many_connections", text))
            self._linger()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Release everything."""
        self._server.unregister(self)
        self._transport = None
        self._reader.close()
        del self._reader  # it and this object refer to each other
        self._notify_client_gone()
        self._current = None  # and so do the exchanges
        self._queue.clear()
        self.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - a hint
        """Return where to read to: the arriving body, else the buffer that all connections share."""
        reader = self._reader
        receives_body = reader.receiving is not None and self.phase != "linger"
        body_buffer = reader.body_buffer() if receives_body else None
        self._reads_body = body_buffer is not None
        return body_buffer if body_buffer is not None else self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process what was read."""
        if self._reads_body:
            self._reader.on_buffer_filled(nbytes)
        elif self.phase != "linger" and not self._final_error:
            self._feed(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        """Note that the client sends no more: model requests end, responses that are ready are still sent."""
        self._eof = True
        waiting = self._current is not None and self.phase != "linger"
        self._notify_client_gone()
        return waiting

    def pause_writing(self) -> None:
        """Note that the client reads too slowly."""
        self._write_paused = True
        self._write_paused_at = time.monotonic()

    def resume_writing(self) -> None:
        """Continue to write."""
        self._write_paused = False
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        if self._current is None and self.phase != "linger":
            self._next()

    # Called by the reader

    def _feed(self, data: memoryview) -> None:
        try:
            self._reader.feed(data)
        except BadHttpError as error:
            self._refuse(error.status, error.code, error.text)
            return
        if self._queue and not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()

    def on_request_start(self) -> None:
        """Wait for the rest of the headers."""
        if self._current is None and not self._write_paused:
            self._enter("head")

    def on_headers(self, exchange: Exchange) -> None:
        """Answer a request, or queue it behind the one being answered."""
        if self._current is None and not self._write_paused and not self._queue:
            self._answer(exchange)
            self._enter("response" if exchange.incoming.complete else "body")
        else:
            self._queue.append(exchange)
            if self._current is None:
                self._enter("response")  # until the client has read the last response

    def on_request_end(self, exchange: Exchange) -> None:
        """Note that a request is complete."""
        if exchange is self._current:
            self._enter("response")

    # Answering

    def _answer(self, exchange: Exchange) -> None:
        self._current = exchange
        if self._eof:
            exchange.notify_client_gone()
        self._server.handle(self, exchange)

    def _next(self) -> None:
        """Answer the next queued request, unless the client has not read the last response yet."""
        if self._write_paused or self._transport is None or self._transport.is_closing():
            return
        if self._queue:
            exchange = self._queue.popleft()
            self._answer(exchange)
            self._enter("response" if exchange.incoming.complete else "body")
        elif self._final_error:
            self.send(self._final_error)
            self._linger()
        elif self._eof:
            self._transport.close()
        else:
            self._enter("head" if self._reader.in_head else "idle")
        if self._read_paused and not self._queue:
            self._read_paused = False
            self._transport.resume_reading()

    def _enter(self, phase: Phase) -> None:
        if self.phase != "linger":
            self.phase = phase
            self._since = time.monotonic()

    def _notify_client_gone(self) -> None:
        for exchange in (self._current, *self._queue):
            if exchange is not None:
                exchange.notify_client_gone()

    def _refuse(self, status: int, code: str, text: str) -> None:
        """Send why this is no HTTP request, after the responses to the requests before it."""
        response = self._server.error_response(status, code, text)
        broken = self._reader.give_up()
        if broken is not None and broken in self._queue:
            self._queue.remove(broken)
        if self._current is not None and broken is not self._current:
            self._final_error = response
            return
        if self._current is None or not self._current.started:
            self.send(response)
        if self._current is not None:
            self._current.ended = True
        self._linger()

    def _linger(self) -> None:
        """End the connection after the client had time to read; closed at once, it would see a reset."""
        transport = self._transport
        self._enter("linger")
        self._current = None
        self._queue.clear()
        if transport is None or transport.is_closing():
            return
        if self._eof or self._read_paused or not transport.can_write_eof():
            transport.close()
        else:
            try:
                transport.write_eof()
            except OSError:  # the client has reset the connection, and the event loop does not know yet
                transport.abort()

    # Called by an exchange

    def send(self, *parts: bytes) -> None:
        """Write to the client, unless it has left."""
        transport = self._transport
        if transport is None or self.phase == "linger" or transport.is_closing():
            return
        if len(parts) == 1:
            transport.write(parts[0])
        else:
            transport.writelines(parts)

    def relay(self, data: bytes) -> bool:
        """Write in the middle of a response; return False if the client does not read, or has left."""
        if self._write_paused or self._current is None or self._transport is None:
            return False
        self._transport.write(data)
        return True

    @property
    def congested(self) -> bool:
        """Whether the client reads too slowly."""
        return self._write_paused and self._transport is not None

    async def drained(self) -> None:
        """Wait until the client has read enough."""
        while self.congested:
            self._resumed = asyncio.get_running_loop().create_future()
            await self._resumed

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Return whether the connection stays open after this response."""
        last = (self._eof or self._server.stopping) and not self._queue
        return exchange.persistent and exchange.incoming.complete and not last

    def on_response_end(self, exchange: Exchange) -> None:
        """Continue with the next request, or end the connection."""
        if exchange is not self._current:
            return
        self._current = None
        transport = self._transport
        if transport is None:
            return
        if not exchange.incoming.complete:
            self._linger()
        elif not exchange.persistent or (self._server.stopping and not self._queue):
            transport.close()
        else:
            self._next()

    def cut(self, exchange: Exchange) -> None:
        """Abort the connection in the middle of a response, so that it does not look complete."""
        if exchange is self._current and self._transport is not None:
            self._current = None
            self._transport.abort()

    # Called by the server

    def stop(self) -> None:
        """Close the connection if it waits for a request."""
        if self._transport is not None and self._current is None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float) -> None:
        """End the connection if something takes too long."""
        limits, waited = self._limits, now - self._since
        if self._write_paused and now - self._write_paused_at > limits.stalled_s:
            self.abort()
        elif self.phase == "idle" and waited > limits.idle_s:
            self.stop()
        elif self.phase == "head" and waited > limits.head_s:
            self._refuse_late("the headers")
        elif self.phase == "linger" and waited > limits.linger_s:
            self.abort()
        elif self.phase == "body" and waited > self._body_timeout_s():
            self._refuse_late("the body")

    def _refuse_late(self, part: str) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", f"{part} did not arrive in time")

    def _body_timeout_s(self) -> float:
        """Return how long the body may take, in seconds, given how much of it has arrived."""
        exchange = self._reader.receiving
        received = exchange.incoming.received if exchange is not None else 0
        return self._limits.body_s + received / self._limits.body_rate

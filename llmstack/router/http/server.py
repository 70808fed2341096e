"""The HTTP server: accepts connections, answers their requests, and stops without cutting what still runs."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from llmstack.router.http.connection import Connection
from llmstack.router.http.head_cache import HeadCache
from llmstack.router.http.limits import HttpLimits

if TYPE_CHECKING:
    import socket

    from llmstack.router.http.exchange import Exchange

READ_BYTES = 256 * 1024
BACKLOG = 2048

_log = logging.getLogger(__name__)


class Application(Protocol):
    """Answers requests."""

    async def start(self) -> None:
        """Prepare; nothing is served before that."""

    async def __call__(self, exchange: Exchange) -> None:
        """Answer a request."""

    def error_body(self, status: int, code: str, text: str) -> bytes:
        """Return the body of the response to something that is not even an HTTP request."""

    def drain(self) -> None:
        """End every request in flight, each with a response."""

    async def close(self) -> None:
        """Release everything."""


class Server:
    """Serves one application on one socket.

    Args:
        app: answers the requests.
        limits: of what is accepted from a client.

    Attributes:
        heads: heads of requests that need not be parsed again.
        started: it serves.
        stopping: no further requests are accepted.
    """

    def __init__(self, app: Application, limits: HttpLimits | None = None) -> None:
        self._app = app
        self.limits = limits or HttpLimits()
        self.heads = HeadCache()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._stop = asyncio.Event()
        self._empty = asyncio.Event()
        self.started = False
        self.stopping = False

    async def serve(self, listening: socket.socket) -> None:
        """Serve until `stop` is called, then let requests in flight end."""
        await self._app.start()
        try:
            self._loop = asyncio.get_running_loop()
            server = await self._loop.create_server(self._connection, sock=listening, backlog=BACKLOG)
            self.started = True
            await self._stop.wait()
            server.close()
            await self._end_connections()
        finally:
            if self._sweeping is not None:
                self._sweeping.cancel()
            await self._app.close()

    def stop(self) -> None:
        """Accept no further connections, and end; called a second time, end at once."""
        if self.stopping:
            self._empty.set()
        self.stopping = True
        self._stop.set()

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    async def _end_connections(self) -> None:
        for connection in list(self._connections):
            connection.stop()
        await self._until_empty(self.limits.drain_s)
        self._app.drain()
        await self._until_empty(self.limits.cut_s)
        for connection in list(self._connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        self._empty.clear()
        self._check_empty()
        await self._until_empty(self.limits.cut_s)

    async def _until_empty(self, seconds: float) -> None:
        if self._connections or self._tasks:
            try:
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
            except TimeoutError:
                pass

    def _connection(self) -> Connection:
        return Connection(self)

    # Called by connections

    @property
    def buffer(self) -> memoryview:
        """Buffer that connections read to; each processes its data before the next one reads."""
        if sys.platform == "win32":  # there several reads are under way at once
            return memoryview(bytearray(READ_BYTES))
        return self._buffer

    def register(self, connection: Connection) -> bool:
        """Add a connection; return False if there are too many."""
        self._connections.add(connection)
        if self._sweeping is None and self._loop is not None:
            self._sweeping = self._loop.call_later(self.limits.sweep_s, self._sweep)
        return len(self._connections) <= self.limits.connections and not self.stopping

    def unregister(self, connection: Connection) -> None:
        """Remove a connection."""
        self._connections.discard(connection)
        self._check_empty()

    def _check_empty(self) -> None:
        if self.stopping and not self._connections and not self._tasks:
            self._empty.set()

    def _sweep(self) -> None:
        """End what takes too long: one timer for all connections, none if there is no connection."""
        self._sweeping = None
        if self._loop is None or not self._connections:
            return
        now = time.monotonic()
        for connection in list(self._connections):
            connection.check(now)
        self._sweeping = self._loop.call_later(self.limits.sweep_s, self._sweep)

    def handle(self, connection: Connection, exchange: Exchange) -> None:
        """Answer a request in a task of its own."""
        exchange.task = task = asyncio.get_running_loop().create_task(self._handle(connection, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._check_empty()

    async def _handle(self, connection: Connection, exchange: Exchange) -> None:
        try:
            await self._app(exchange)
        except asyncio.CancelledError:
            pass  # the client has left, or the server ends
        except Exception:  # noqa: BLE001 - a bug costs one request
            _log.exception("answering %s", exchange.method)
        finally:
            if not exchange.ended:
                connection.cut(exchange)

    def error_response(self, status: int, code: str, text: str) -> bytes:
        """Return the whole response to invalid HTTP."""
        body = self._app.error_body(status, code, text)
        retry = "retry-after: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {int(status)} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n{retry}"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        return head.encode() + body

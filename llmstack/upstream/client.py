"""The HTTP client. Code that sends requests knows only these classes."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Protocol, Self

from llmstack.units import MB
from llmstack.upstream.address import split_url
from llmstack.upstream.connection import ServerConnection
from llmstack.upstream.limits import MAX_HELD_BYTES
from llmstack.upstream.listener import listener_of_child
from llmstack.upstream.response_reader import ConnectionBrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from llmstack.upstream.address import Origin
    from llmstack.upstream.connection import Relay, Sink
    from llmstack.upstream.response_head import ResponseHead

CONNECT_S = 10.0
IDLE_S = 4.0  # llama.cpp closes a connection after 5 s idle
_BODY_EXPECTED = frozenset(("POST", "PUT", "PATCH"))


class UpstreamError(Exception):
    """The connection to a server failed or broke; the text says how."""


class Response:
    """A server's response, its body still to come."""

    def __init__(
        self,
        head: ResponseHead,
        connection: ServerConnection,
        give_back: Callable[[ServerConnection], None],
    ) -> None:
        self._connection = connection
        self._give_back = give_back
        self.status = head.status
        self.content_type = head.content_type
        self.headers = head.headers

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self.content_type.startswith("text/event-stream")

    def chunks(self) -> Chunks:
        """Return an iterator over the body as it arrives.

        It raises UpstreamError if the connection breaks before the end of the body.
        """
        return _Chunks(self._connection)

    async def read(self, limit: int) -> bytes:
        """Return the whole body; if it is longer than `limit` bytes, its start, which is longer, too.

        Raises:
            UpstreamError: the connection broke before its end.
        """
        try:
            return await self._connection.whole(limit)
        except ConnectionBrokenError as error:
            raise UpstreamError(str(error)) from error

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection unless the whole body was read, which cancels the request at the server."""
        if self._connection.release():
            self._give_back(self._connection)


class Chunks(Protocol):
    """The parts of a body, none of them empty."""

    def __aiter__(self) -> Self:
        """Return self."""

    async def __anext__(self) -> bytes:
        """Return the next part; raise UpstreamError if the connection broke."""

    async def pass_on(self, sink: Sink, relay: Relay | None = None, ending: bytes = b"") -> bool:
        """Hand the rest to `sink` as it comes; return False if it cannot accept more for now.

        Args:
            sink: gets each part.
            relay: gets it first if it is exactly one HTTP chunk whose content ends with `ending`.
            ending: see `relay`.
        """


class _Chunks:
    """The parts of a response's body."""

    __slots__ = ("_connection",)

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            part = await self._connection.part()
        except ConnectionBrokenError as error:
            raise UpstreamError(str(error)) from error
        if not part:
            raise StopAsyncIteration
        return part

    async def pass_on(self, sink: Sink, relay: Relay | None = None, ending: bytes = b"") -> bool:
        try:
            return await self._connection.pass_on(sink, relay, ending)
        except ConnectionBrokenError as error:
            raise UpstreamError(str(error)) from error


class Upstream:
    """The HTTP client. Created inside a running event loop, closed with `close`."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[ServerConnection]] = {}
        self._open: dict[ServerConnection, Origin] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], *body: bytes | memoryview
    ) -> Response:
        """Send a request and wait for the status of the response.

        llama.cpp advertises keep-alive and then closes the connection after every streamed response, and
        every hundred requests: an idle connection may be dead. If an idle one closes before the first byte,
        the request is sent once more on a new one.

        Raises:
            UpstreamError: the server cannot be reached, or the connection broke.
        """
        try:
            origin, target = split_url(url)
        except ValueError as error:
            raise UpstreamError(str(error)) from error
        request_head = _request_head(method, target, origin, headers, sum(map(len, body)))
        connection = _take_idle(self._idle.get(origin, []))
        if connection is not None:
            try:
                head = await connection.request(request_head, *body, no_body=method == "HEAD")
            except ConnectionBrokenError as error:
                if not error.silent:
                    raise UpstreamError(str(error)) from error
            else:
                return Response(head, connection, self._give_back)
        connection = await self._connect(origin)
        try:
            head = await connection.request(request_head, *body, no_body=method == "HEAD")
        except ConnectionBrokenError as error:
            raise UpstreamError(str(error)) from error
        return Response(head, connection, self._give_back)

    def _give_back(self, connection: ServerConnection) -> None:
        self._idle.setdefault(self._open[connection], []).append(connection)

    def _forget(self, connection: ServerConnection) -> None:
        self._open.pop(connection, None)

    async def _connect(self, origin: Origin) -> ServerConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                if origin.child is not None:
                    connection = await self._connect_to_child(origin)
                else:
                    connection = await self._open_connection(origin)
        except TimeoutError:
            raise UpstreamError(f"cannot connect within {CONNECT_S:g} s") from None
        except OSError as error:
            raise UpstreamError(f"cannot connect: {error.strerror or error}") from error
        self._open[connection] = origin
        if self._sweep_timer is None:
            self._sweep_timer = loop.call_later(IDLE_S, self._sweep)
        return connection

    async def _open_connection(self, origin: Origin) -> ServerConnection:
        loop = asyncio.get_running_loop()
        if origin.socket_path:
            _, connection = await loop.create_unix_connection(
                lambda: ServerConnection(self._forget), origin.socket_path
            )
            return connection
        _, connection = await loop.create_connection(
            lambda: ServerConnection(self._forget),
            origin.host,
            origin.port,
            ssl=self._tls_context() if origin.secure else None,
        )
        return connection

    async def _connect_to_child(self, origin: Origin) -> ServerConnection:
        """Connect, and make sure that the socket that accepts it is the child's.

        If the same socket of the child listens before and after, nobody else can have listened in between.
        """
        where = (origin.child or 0, origin.host, origin.port)  # 0 is nobody's child
        before = await asyncio.to_thread(listener_of_child, *where)
        if before is None:
            raise UpstreamError(f"port {origin.port} is not served by the process that was started for it")
        connection = await self._open_connection(origin)
        try:
            after = await asyncio.to_thread(listener_of_child, *where)
        except BaseException:
            connection.abort()
            raise
        if after != before:
            connection.abort()
            raise UpstreamError(f"port {origin.port} was taken over by another process")
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _sweep(self) -> None:
        """Close what was idle for long: one timer for all connections, none if none is open."""
        self._sweep_timer = None
        oldest = time.monotonic() - IDLE_S
        for origin, idle in list(self._idle.items()):
            stale = [each for each in idle if not each.usable or each.idle_since < oldest]
            idle[:] = [each for each in idle if each not in stale]
            for connection in stale:
                connection.abort()
            if not idle:
                del self._idle[origin]
        if self._open:
            self._sweep_timer = asyncio.get_running_loop().call_later(IDLE_S, self._sweep)

    async def __aenter__(self) -> Self:
        """Return self."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # the event loop closes what was aborted


async def ask(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> tuple[int, bytes]:
    """Send one request on a connection of its own; return status and body.

    Raises:
        UpstreamError: the server cannot be reached, the connection broke, or the response is too long.
    """
    async with Upstream() as upstream:
        with await upstream.send(method, url, headers or {}, body) as answer:
            content = await answer.read(MAX_HELD_BYTES)
            if len(content) > MAX_HELD_BYTES:
                raise UpstreamError(f"its answer is larger than {MAX_HELD_BYTES // MB} MB")
            return answer.status, content


def _take_idle(idle: list[ServerConnection]) -> ServerConnection | None:
    """Return the usable connection that was used last; None if there is none."""
    oldest = time.monotonic() - IDLE_S
    while idle:
        connection = idle.pop()
        if connection.usable and connection.idle_since >= oldest:
            return connection
        connection.abort()
    return None


def _request_head(method: str, target: str, origin: Origin, headers: Mapping[str, str], size: int) -> bytes:
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    length = f"content-length: {size}\r\n" if size or method in _BODY_EXPECTED else ""
    if fields.count("\n") != len(headers):
        raise UpstreamError("a header of the request holds a line break")
    text = f"{method} {target} HTTP/1.1\r\nhost: {origin.authority}\r\n{fields}{length}\r\n"
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise UpstreamError("a header of the request holds characters that no header can") from None

"""One request of a client and the response to it. Code that forwards requests knows only this class."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from llmstack.router.http.request_body import BodyTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from llmstack.router.http.connection import Connection
    from llmstack.router.http.request_body import RequestBody

JOIN_BYTES = 16 * 1024  # up to this size copying costs less than writing one more buffer
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}
_WITHOUT_BODY = frozenset((204, 304))


class RequestHead(msgspec.Struct, frozen=True, eq=False):
    """The part of a request before its body.

    Attributes:
        method: in upper case.
        target: path and query as they were sent; `path` is decoded.
        headers: names in lower case; repeated headers are joined with commas.
        version: of HTTP.
        persistent: the client wants to keep the connection.
    """

    method: str
    target: str
    path: str
    headers: Mapping[str, str]
    version: str
    persistent: bool


class Exchange:
    """A request being answered.

    Attributes:
        head: the part of the request before its body; `method`, `target`, `path` and `headers` are its own.
        incoming: the body as it arrives.
        started: the status was sent; `ended`: the whole response was.
        is_client_gone: the client has left, or will send no more, which looks the same.
        task: the task that answers it.
    """

    started = ended = is_client_gone = False
    status = 0
    task: asyncio.Task[None] | None = None
    _chunked = False
    _gone_callback: Callable[[Exchange], object] | None = None

    def __init__(self, connection: Connection, head: RequestHead, incoming: RequestBody) -> None:
        self.head = head
        self.method = head.method
        self.target = head.target
        self.path = head.path
        self.headers = head.headers
        self.incoming = incoming
        self._connection = connection
        self._persistent = head.persistent
        self._silent = head.method == "HEAD"

    @property
    def persistent(self) -> bool:
        """Whether the connection is kept: the client wants that, and was not told otherwise."""
        return self._persistent

    async def body(self, limit: int) -> bytes:
        """Return the whole body; only once.

        Raises:
            BodyTooLargeError: it is longer than `limit` bytes.
            ClientGoneError: the client left before it was complete.
        """
        incoming = self.incoming
        if not (incoming.complete or incoming.too_large) and self.headers.get("expect", "").lower() == (
            "100-continue"
        ):
            self._connection.send(CONTINUE)
        body = await incoming.whole()
        if len(body) > limit:
            raise BodyTooLargeError
        return body

    def on_client_gone(self, callback: Callable[[Exchange], object]) -> None:
        """Call `callback` with this exchange, once, if the client leaves before the response has ended.

        The exchange is an argument so that the callback need not refer to it, which would make a cycle.
        """
        self._gone_callback = callback
        if self.is_client_gone:
            self.notify_client_gone()

    async def client_gone(self) -> None:
        """Wait until the client has left."""
        gone = asyncio.Event()
        self.on_client_gone(lambda _: gone.set())
        await gone.wait()

    def cancel(self) -> None:
        """Cancel the task that answers it."""
        if self.task is not None:
            self.task.cancel()

    def notify_client_gone(self) -> None:
        """Note that the client has left."""
        self.is_client_gone = True
        self.incoming.give_up()
        callback, self._gone_callback = self._gone_callback, None
        if callback is not None and not self.ended:
            callback(self)

    def _head(self, status: int, headers: Iterable[tuple[str, str]], length: int | None) -> bytes:
        """Return the status line and headers, and decide how the end of the body is marked."""
        self.started = True
        self.status = status
        self._silent = self._silent or status in _WITHOUT_BODY
        fields = [f"{name}: {value}" for name, value in headers]
        if length is not None:
            if status not in _WITHOUT_BODY:
                fields.append(f"content-length: {length}")
        elif not self._silent:
            self._chunked = self.head.version == "1.1"
            self._persistent = self._persistent and self._chunked
            if self._chunked:
                fields.append("transfer-encoding: chunked")
        if not self._connection.keeps_alive(self):
            fields.append("connection: close")
            self._persistent = False
        elif self.head.version != "1.1":
            fields.append("connection: keep-alive")
        fields.append(_date(int(time.time())))
        text = "\r\n".join((_STATUS_LINES.get(status) or f"HTTP/1.1 {int(status)} ", *fields, "", ""))
        if text.count("\n") != len(fields) + 2 or "\0" in text:
            raise ValueError("a response header holds a line break")
        return text.encode("latin-1")

    def start(self, status: int, headers: Iterable[tuple[str, str]], length: int | None = None) -> None:
        """Send status and headers.

        Args:
            status: of HTTP.
            headers: without those that say where the body ends.
            length: of the body in bytes; None if it is not known yet.
        """
        self._connection.send(self._head(status, headers, length))

    async def write(self, data: bytes) -> None:
        """Send a part of the body; wait until the client has read enough."""
        if not self.write_now(data):
            await self.drained()

    def write_now(self, data: bytes) -> bool:
        """Send a part of the body; return False if the client reads too slowly: wait for `drained` then."""
        if data and not self._silent and not self.ended:
            self._send(data)
        return not self._connection.congested

    @property
    def relay(self) -> Callable[[bytes], bool] | None:
        """Sends a chunk that is already framed, or returns False; None if the response is not chunked."""
        return self._connection.relay if self._chunked else None

    async def drained(self) -> None:
        """Wait until the client has read enough."""
        await self._connection.drained()

    def _send(self, data: bytes) -> None:
        if not self._chunked:
            self._connection.send(data)
        elif len(data) < JOIN_BYTES:
            self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._connection.send(b"%x\r\n" % len(data), data, b"\r\n")

    def finish(self, data: bytes = b"") -> None:
        """Send the last part of the body."""
        if self.ended:
            return
        self.ended = True
        if not self._silent:
            if data:
                self._send(data)
            if self._chunked:
                self._connection.send(b"0\r\n\r\n")
        self._connection.on_response_end(self)

    def cut(self) -> None:
        """Break the response off, so that it does not look complete."""
        self.ended = True
        self._connection.cut(self)

    def respond(self, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
        """Send a whole response."""
        head = self._head(status, headers, len(body))
        self.ended = True
        if self._silent or not body:
            self._connection.send(head)
        elif len(body) < JOIN_BYTES:
            self._connection.send(head + body)
        else:
            self._connection.send(head, body)
        self._connection.on_response_end(self)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return f"date: {formatdate(second, usegmt=True)}"

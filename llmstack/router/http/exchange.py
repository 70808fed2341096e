"""One request of a client, and the answer to it. What forwards requests knows only this class."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import msgspec

from llmstack.router.http.request_body import BodyTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from llmstack.router.http.request_body import RequestBody

JOINED_BYTES = 16 * 1024  # up to here copying costs less than one more buffer to write
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}
_BODILESS = frozenset((204, 304))


class ConnectionWriter(Protocol):
    """The connection that an exchange is held on."""

    def send(self, *parts: bytes) -> None:
        """Write; nothing happens where the client has left."""

    def relay(self, data: bytes) -> bool:
        """Write in the middle of an answer; return False where the client does not read, or has left."""

    @property
    def congested(self) -> bool:
        """Whether the client does not read."""

    async def drained(self) -> None:
        """Wait while the client does not read."""

    def answered(self, exchange: Exchange) -> None:
        """Go on to the next request."""

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Whether the connection stays open after this answer."""


class RequestHead(msgspec.Struct, frozen=True, eq=False):
    """What a request says before its body.

    Attributes:
        method: upper case.
        target: path and query as they were sent; `path` is decoded.
        headers: lower-case names; the values of repeated ones, with commas.
        version: of HTTP.
        persistent: the connection is to go on after it.
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
        head: what it says before its body.
        path: of the head, as `method`, `target` and `headers` are.
        incoming: its body as it arrives.
        started: the status has been sent; `ended`: the whole answer has.
        left: the client has gone, or will send no more, which looks the same.
        task: that answers it.
    """

    started = ended = left = False
    status = 0
    task: asyncio.Task[None] | None = None
    _chunked = False
    _gone: Callable[[Exchange], object] | None = None

    def __init__(self, wire: ConnectionWriter, head: RequestHead, incoming: RequestBody) -> None:
        self.head = head
        self.method = head.method
        self.target = head.target
        self.path = head.path
        self.headers = head.headers
        self.incoming = incoming
        self._wire = wire
        self._persistent = head.persistent
        self._silent = head.method == "HEAD"

    @property
    def persistent(self) -> bool:
        """Whether the connection is to go on after it: the client wants that, and was not told otherwise."""
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
            self._wire.send(CONTINUE)
        body = await incoming.whole()
        if len(body) > limit:
            raise BodyTooLargeError
        return body

    def when_gone(self, callback: Callable[[Exchange], object]) -> None:
        """Call back with this exchange, once, when the client leaves before its answer has ended."""
        self._gone = callback
        if self.left:
            self.leave()

    async def gone(self) -> None:
        """Wait until the client has left."""
        left = asyncio.Event()
        self.when_gone(lambda _: left.set())
        await left.wait()

    def cancel(self) -> None:
        """Cancel what answers it."""
        if self.task is not None:
            self.task.cancel()

    def leave(self) -> None:
        """Note that the client has gone."""
        self.left = True
        self.incoming.give_up()
        callback, self._gone = self._gone, None
        if callback is not None and not self.ended:
            callback(self)

    def _head(self, status: int, headers: Iterable[tuple[str, str]], length: int | None) -> bytes:
        """Return the status line and headers, and settle how the body's end is marked."""
        self.started = True
        self.status = status
        self._silent = self._silent or status in _BODILESS
        fields = [f"{name}: {value}" for name, value in headers]
        if length is not None:
            if status not in _BODILESS:
                fields.append(f"content-length: {length}")
        elif not self._silent:
            self._chunked = self.head.version == "1.1"
            self._persistent = self._persistent and self._chunked
            if self._chunked:
                fields.append("transfer-encoding: chunked")
        if not self._wire.keeps_alive(self):
            fields.append("connection: close")
            self._persistent = False  # whatever comes meanwhile
        elif self.head.version != "1.1":
            fields.append("connection: keep-alive")
        fields.append(_date(int(time.time())))
        text = "\r\n".join((_STATUS_LINES.get(status) or f"HTTP/1.1 {status} ", *fields, "", ""))
        if text.count("\n") != len(fields) + 2 or "\0" in text:
            raise ValueError("a header of an answer holds a line break")
        return text.encode("latin-1")

    def start(self, status: int, headers: Iterable[tuple[str, str]], length: int | None = None) -> None:
        """Send status and headers.

        Args:
            status: of HTTP.
            headers: but for those that say where the body ends.
            length: of the body in bytes; None where it is not known yet.
        """
        self._wire.send(self._head(status, headers, length))

    async def write(self, data: bytes) -> None:
        """Send a part of the body; waits while the client does not read."""
        if not self.write_now(data):
            await self.drained()

    def write_now(self, data: bytes) -> bool:
        """Send a part of the body; return False where the client does not read, and is to be waited for."""
        if data and not self._silent and not self.ended:
            self._send(data)
        return not self._wire.congested

    @property
    def relay(self) -> Callable[[bytes], bool] | None:
        """What sends a chunk in its framing, or returns False; None where the client knows no chunks."""
        return self._wire.relay if self._chunked else None

    async def drained(self) -> None:
        """Wait while the client does not read."""
        await self._wire.drained()

    def _send(self, data: bytes) -> None:
        if not self._chunked:
            self._wire.send(data)
        elif len(data) < JOINED_BYTES:
            self._wire.send(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._wire.send(b"%x\r\n" % len(data), data, b"\r\n")

    def finish(self, data: bytes = b"") -> None:
        """Send the last part of the body."""
        if self.ended:
            return
        self.ended = True
        if not self._silent:
            if data:
                self._send(data)
            if self._chunked:
                self._wire.send(b"0\r\n\r\n")
        self._wire.answered(self)

    def respond(self, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
        """Send a whole answer."""
        head = self._head(status, headers, len(body))
        self.ended = True
        if self._silent or not body:
            self._wire.send(head)
        elif len(body) < JOINED_BYTES:
            self._wire.send(head + body)
        else:
            self._wire.send(head, body)
        self._wire.answered(self)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return f"date: {formatdate(second, usegmt=True)}"

"""One request of a client, over ASGI. What forwards requests knows only this class."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping
    from typing import Any

    Message = MutableMapping[str, Any]


class BodyTooLargeError(Exception):
    """The client sends more than the router takes."""


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class Exchange:
    """A request being answered.

    Attributes:
        method: upper case.
        path: decoded; `target` path and query as they were sent.
        headers: lower-case names; of repeated ones the last.
        started: the status has been sent; `ended`: the whole answer has.
    """

    def __init__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        raw_path = (scope.get("raw_path") or self.path.encode()).decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        self.target = f"{raw_path}?{query}" if query else raw_path
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.started = False
        self.ended = False
        self.status = 0
        self._receive = receive
        self._send = send

    async def body(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            BodyTooLargeError: it is longer than `limit` bytes.
            ClientGoneError: the client left before it was complete.
        """
        if int(self.headers.get("content-length", "0")) > limit:  # digits: the server refuses anything else
            raise BodyTooLargeError
        parts, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise BodyTooLargeError
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def gone(self) -> None:
        """Wait until the client has left. Only after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send status and headers."""
        self.started = True
        self.status = status
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, data: bytes) -> None:
        """Send a part of the body; waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """Send the last part of the body."""
        self.ended = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def respond(self, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
        """Send a whole answer."""
        await self.start(status, [*headers, ("content-length", str(len(body)))])
        await self.finish(body)

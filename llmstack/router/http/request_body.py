"""The body of a request as it arrives."""

from __future__ import annotations

import asyncio
import io

FIRST_BYTES = 256 * 1024  # allocated before the first byte; later at most as much again as has come


class BodyTooLargeError(Exception):
    """The client sends more than the router accepts."""


class ClientGoneError(Exception):
    """The client left before its request was complete."""


class RequestBody:
    """The body of one request.

    Args:
        length: in bytes, as the client declared it; None if it comes in chunks.
        limit: in bytes; a longer body is thrown away as it comes.
        whole: the body, if all of it is here already and it is within the limit.
    """

    __slots__ = (
        "_buffer",
        "_length",
        "_limit",
        "_parts",
        "_waiter",
        "_whole",
        "broken",
        "complete",
        "received",
    )

    def __init__(self, length: int | None, limit: int, whole: bytes | None = None) -> None:
        self._length = length
        self._limit = limit
        self._parts: list[bytes] = [] if whole is None else [whole]
        self._whole: io.BytesIO | None = None  # returns what was read into it without a copy
        self._buffer: memoryview | None = None  # the last one that was returned
        self._waiter: asyncio.Future[None] | None = None
        self.received = 0 if whole is None else len(whole)
        self.complete = whole is not None
        self.broken = False

    @property
    def too_large(self) -> bool:
        """Whether it is, or says that it will be, longer than the limit."""
        return (self._length or self.received) > self._limit

    @property
    def missing(self) -> int:
        """How many of the declared bytes have not come yet."""
        return max(0, (self._length or 0) - self.received)

    def feed(self, data: bytes) -> None:
        """Add a part."""
        self.received += len(data)
        if not self.too_large:
            self._parts.append(data)
        elif self._parts:
            self._parts.clear()
            self._wake()

    def buffer(self) -> memoryview | None:
        """Return where the next bytes can be read to directly; None if the length is not known."""
        if self._length is None or self.complete or self.broken or self.too_large:
            return None
        if self._buffer is not None:
            self._buffer.release()  # the event loop may still hold it, and an exported buffer cannot grow
        self._buffer = self._grow(self._length).getbuffer()[self.received :]
        return self._buffer

    def _grow(self, length: int) -> io.BytesIO:
        """Return the body with space for more bytes at its end."""
        if self._whole is None:
            self._whole = io.BytesIO(b"".join(self._parts))
            self._parts.clear()
            self._whole.seek(0, io.SEEK_END)
        if self._whole.tell() == self.received:
            self._whole.seek(min(length, self.received + max(FIRST_BYTES, self.received)) - 1)
            self._whole.write(b"\0")
        return self._whole

    def on_buffer_filled(self, count: int) -> None:
        """Note that so many bytes were read into `buffer`."""
        self.received += count
        if self.received == self._length:
            self.finish()

    def finish(self) -> None:
        """Note that it is complete."""
        self.complete = True
        self._wake()

    def give_up(self) -> None:
        """Note that the rest will not come."""
        if not self.complete:
            self.broken = True
            self._parts.clear()
            self._whole = self._buffer = None
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def whole(self) -> bytes:
        """Return the whole body; call it only once.

        Raises:
            BodyTooLargeError: it is longer than the limit.
            ClientGoneError: the client left before it was complete.
        """
        while not (self.complete or self.broken or self.too_large):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.too_large:
            raise BodyTooLargeError
        if self.broken:
            raise ClientGoneError
        if self._whole is not None:
            if self._buffer is not None:
                self._buffer.release()
            whole, self._whole = self._whole, None
            return whole.getvalue()
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

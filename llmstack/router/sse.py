"""Server-sent events, whole ones only: a client cannot read what follows one that was cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from llmstack.upstream.client import Chunks
    from llmstack.upstream.connection import Relay, Sink

_END = b"\n\n"  # as nearly all have it
_BLANK_LINES = (b"\n\n", b"\n\r\n", b"\r\r")
_OVERLAP = 2  # bytes of one that may stand in the chunk before


class EventBuffer:
    """The events of a stream, as they come.

    Attributes:
        held: the parts of one that has not ended.
    """

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self.held: list[bytes] = []
        self._tail = b""  # the last bytes of what is held

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return b"".join(self.held)

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next events."""
        while not (events := self.feed(await anext(self._chunks))):
            pass
        return events

    async def pass_on(self, sink: Sink, relay: Relay | None) -> bool:
        """Hand the rest to `sink` as it comes; return whether that was all, or it wants no more for now.

        Args:
            sink: takes whole events.
            relay: is asked first where what came is one chunk of HTTP that ends with an event.
        """
        return await self._chunks.pass_on(
            lambda chunk: not (events := self.feed(chunk)) or sink(events), relay, _END
        )

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that are whole with these bytes."""
        if not self.held and chunk.endswith(_END):
            return chunk
        seen = self._tail + chunk
        end = _end(seen) - len(self._tail)
        if end <= 0:
            self.held.append(chunk)
            self._tail = seen[-_OVERLAP:]
            return b""
        events = b"".join((*self.held, chunk[:end]))
        left = chunk[end:]
        self.held, self._tail = [left] if left else [], left[-_OVERLAP:]
        return events


def _end(text: bytes) -> int:
    """Return where its last event ends, 0 where none does."""
    return max((at + len(line) for line in _BLANK_LINES if (at := text.rfind(line)) >= 0), default=0)

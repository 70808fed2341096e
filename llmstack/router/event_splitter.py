"""Cutting a stream into whole server-sent events: a client cannot read what follows one that was cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from llmstack.units import MB
from llmstack.upstream.client import UpstreamError
from llmstack.upstream.limits import MAX_EVENT_BYTES

if TYPE_CHECKING:
    from llmstack.upstream.client import Chunks
    from llmstack.upstream.connection import Relay, Sink

_USUAL_END = b"\n\n"
_EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
_OVERLAP = 2  # bytes of an event's end that the chunk before may hold


class EventSplitter:
    """The whole events of a stream, as they come.

    Attributes:
        partial: the parts of an event that has not ended.
    """

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self.partial: list[bytes] = []
        self._tail = b""  # the last bytes of the partial event
        self._partial_bytes = 0

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return b"".join(self.partial)

    def __aiter__(self) -> Self:
        """Return self."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next whole events."""
        while not (events := self.feed(await anext(self._chunks))):
            pass
        return events

    async def pass_on(self, sink: Sink, relay: Relay | None) -> bool:
        """Hand the remaining events to `sink` as they come; return False if it cannot accept more for now.

        Args:
            sink: gets whole events.
            relay: gets it first if it is one HTTP chunk that ends with an event; see `ServerConnection`.
        """
        return await self._chunks.pass_on(
            lambda chunk: not (events := self.feed(chunk)) or sink(events), relay, _USUAL_END
        )

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that are whole with these bytes.

        Raises:
            UpstreamError: an event is too large.
        """
        if not self.partial and chunk.endswith(_USUAL_END):
            return chunk
        recent = self._tail + chunk
        end = _last_event_end(recent) - len(self._tail)
        if end <= 0:
            self.partial.append(chunk)
            self._tail = recent[-_OVERLAP:]
            self._partial_bytes += len(chunk)
            if self._partial_bytes > MAX_EVENT_BYTES:
                raise UpstreamError(f"an event of its answer is larger than {MAX_EVENT_BYTES // MB} MB")
            return b""
        events = b"".join((*self.partial, chunk[:end]))
        remaining = chunk[end:]
        self.partial, self._tail = [remaining] if remaining else [], remaining[-_OVERLAP:]
        self._partial_bytes = len(remaining)
        return events


def _last_event_end(text: bytes) -> int:
    """Return where the last event in a text ends, 0 if none does."""
    return max((at + len(end) for end in _EVENT_ENDS if (at := text.rfind(end)) >= 0), default=0)

"""A stream in pieces, watched as the router watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.router.event_splitter import EventSplitter
from llmstack.serving.response import BodyStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmstack.router.dialects.base import Dialect, StreamWatch


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def watched(dialect: Dialect, stream: bytes, size: int) -> tuple[bytes, StreamWatch]:
    """Return what is passed on of a stream that comes in chunks of so many bytes, and what was seen of it."""
    events, watch = EventSplitter(BodyStream(_nothing())), dialect.watch()
    chunks = (stream[at : at + size] for at in range(0, len(stream), size))
    passed = b""
    for chunk in chunks:
        whole = events.feed(chunk)
        # As the router does: events that do not matter to the watch are passed on.
        passed += watch.feed(whole) if watch.must_see(whole) else whole
    return passed + (events.rest if watch.complete else b""), watch

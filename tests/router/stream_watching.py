"""Watch a stream in pieces as the router does."""

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


def watch_stream(dialect: Dialect, stream: bytes, size: int) -> tuple[bytes, StreamWatch]:
    """Feed a stream to a watch in chunks of `size` bytes; return what is passed on, and the watch."""
    events, watch = EventSplitter(BodyStream(_nothing())), dialect.watch()
    chunks = (stream[at : at + size] for at in range(0, len(stream), size))
    passed_on = b""
    for chunk in chunks:
        whole = events.feed(chunk)
        # As in the router: events that the watch need not see are passed on unseen.
        passed_on += watch.feed(whole) if watch.must_see(whole) else whole
    return passed_on + (events.rest if watch.complete else b""), watch

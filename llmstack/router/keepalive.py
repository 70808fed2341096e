"""Keeping a client connected while its request waits for something slow, such as a model that loads.

For the first seconds nothing is sent, so that a failure can still be an HTTP error. Then a streaming client
gets status 200 and SSE comments; from there on a failure is an error event.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from llmstack.router.http.exchange import Exchange
    from llmstack.router.routed_request import RoutedRequest

_STREAM_HEADERS = (("content-type", "text/event-stream"), ("cache-control", "no-cache"))


@dataclass(frozen=True, slots=True)
class WaitTimeouts:
    """How long a request waits for something, in seconds.

    Attributes:
        quiet_s: before the first comment, so that a failure can still be an HTTP error.
        comment_s: between two comments.
        load_s: for a tier that is not up, if another tier could serve at once. Loading 45 GB from a slow disk
            takes minutes.
    """

    quiet_s: float = 2.0
    comment_s: float = 5.0
    load_s: float = 300.0


class KeepAlive:
    """While this context is active, a streaming client gets a comment now and then.

    It costs a timer, and a task only once there is something to send: most requests never wait that long.

    Attributes:
        waiting_for: what the request waits for; in a comment the tier's name follows.
        timeouts: how long things may take.
    """

    def __init__(self, exchange: Exchange, request: RoutedRequest, timeouts: WaitTimeouts) -> None:
        self.waiting_for = "waiting for"
        self.timeouts = timeouts
        self._exchange = exchange
        self._request = request
        self._last_summary = ""
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the timer."""
        if self._request.wants_stream:
            waited_s = time.monotonic() - self._request.received_at
            self._schedule(max(0.0, self.timeouts.quiet_s - waited_s))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send no more comments."""
        if kind is asyncio.CancelledError and self._comment is not None:
            self._comment.cancel()  # nobody reads it
        await self.stop()

    async def stop(self) -> None:
        """Send no more comments; one that is being written is completed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._comment is not None:
            await asyncio.wait((self._comment,))
            self._comment = None

    def _schedule(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._schedule(self.timeouts.comment_s)
        if self._comment is None or self._comment.done():  # else the client has not even read the last one
            self._comment = asyncio.create_task(self._write_comment())

    async def _write_comment(self) -> None:
        exchange, request = self._exchange, self._request
        text = ""
        if not exchange.started:
            exchange.start(200, [*request.headers, *_STREAM_HEADERS])
        if self._last_summary != request.summary:  # in the first comment, and when another tier takes over
            self._last_summary = request.summary
            text = f": {request.summary}\n\n"
        seconds = time.monotonic() - request.received_at
        await exchange.write(f"{text}: {self.waiting_for} {request.tier}, {seconds:.0f} s\n\n".encode())

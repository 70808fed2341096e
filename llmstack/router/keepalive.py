"""Waiting for something slow, such as a model that loads, without the client timing out.

For the first seconds nothing is sent, so that a failure can still be an HTTP error. Then a client that
streams gets 200 and comments; from there on a failure is an error event.
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

_EVENT_STREAM = (("content-type", "text/event-stream"), ("cache-control", "no-cache"))


@dataclass(frozen=True, slots=True)
class WaitTimeouts:
    """How long things may take, in seconds.

    Attributes:
        quiet_s: nothing is sent to a client that waits, so that a failure can still be an HTTP error.
        comment_s: between comments after that.
        load_s: a tier that is not up by then is left for another one that is. 45 GB from a slow disk take
            minutes.
    """

    quiet_s: float = 2.0
    comment_s: float = 5.0
    load_s: float = 300.0


class KeepAlive:
    """While it is entered, a streaming client is told now and then what its request waits for.

    A timer, and a task only once there is something to say: most requests never wait that long.

    Attributes:
        what: what is being waited for, before the tier's name.
        waits: how long things may take.
    """

    def __init__(self, exchange: Exchange, call: RoutedRequest, waits: WaitTimeouts) -> None:
        self.what = "waiting for"
        self.waits = waits
        self._exchange = exchange
        self._call = call
        self._told = ""
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to count."""
        if self._call.streams:
            self._in(max(0.0, self.waits.quiet_s - (time.monotonic() - self._call.arrived)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say no more."""
        if kind is asyncio.CancelledError and self._comment is not None:
            self._comment.cancel()  # nobody reads it
        await self.end()

    async def end(self) -> None:
        """Say no more; a comment that is being written is written to its end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._comment is not None:
            await asyncio.wait((self._comment,))
            self._comment = None

    def _in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._speak)

    def _speak(self) -> None:
        self._in(self.waits.comment_s)
        if self._comment is None or self._comment.done():  # else the client does not even read the last one
            self._comment = asyncio.create_task(self._write())

    async def _write(self) -> None:
        exchange, call = self._exchange, self._call
        text = ""
        if not exchange.started:
            exchange.start(200, [*call.headers, *_EVENT_STREAM])
        if self._told != call.explained:  # at first, and when another tier takes over
            self._told = call.explained
            text = f": {call.explained}\n\n"
        seconds = time.monotonic() - call.arrived
        await exchange.write(f"{text}: {self.what} {call.tier}, {seconds:.0f} s\n\n".encode())

"""Waiting for something slow, such as a model that loads, without the client timing out.

For the first seconds nothing is sent, so that a failure can still be an HTTP error. Then a client that
streams gets 200 and comments; from there on a failure is an error event.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from llmstack.router.call import Call
    from llmstack.router.exchange import Exchange

T = TypeVar("T")

_EVENT_STREAM = (("content-type", "text/event-stream"), ("cache-control", "no-cache"))


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a client is left without a word, in seconds.

    Attributes:
        quiet_s: nothing is sent, so that a failure can still be an HTTP error.
        comment_s: between comments after that.
    """

    quiet_s: float = 2.0
    comment_s: float = 5.0


async def while_telling(exchange: Exchange, call: Call, waits: Waits, work: Awaitable[T], what: str) -> T:
    """Await work; where it takes long, keep a streaming client informed."""
    if not call.streams:
        return await work
    task = asyncio.ensure_future(work)
    try:
        elapsed = time.monotonic() - call.arrived
        patience = waits.comment_s if exchange.started else max(0.0, waits.quiet_s - elapsed)
        done, _ = await asyncio.wait((task,), timeout=patience)
        while not done:
            await _comment(exchange, call, what)
            done, _ = await asyncio.wait((task,), timeout=waits.comment_s)
        return task.result()
    except BaseException:
        await _abandon(task)
        raise


async def _abandon(task: asyncio.Future[T]) -> None:
    """Cancel work that nobody waits for; what came in the same moment is given back."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        result = await task
        if isinstance(result, contextlib.AbstractAsyncContextManager):
            await result.__aexit__(None, None, None)


async def _comment(exchange: Exchange, call: Call, what: str) -> None:
    if not exchange.started:
        await exchange.start(200, [*call.headers, *_EVENT_STREAM])
        await exchange.write(f": {call.explained}\n\n".encode())
    seconds = time.monotonic() - call.arrived
    await exchange.write(f": {what} {call.tier}, {seconds:.0f} s\n\n".encode())

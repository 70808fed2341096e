"""Calls that may hang, for example in a read from a network file system that does not answer."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
POLL_S = 0.2  # Windows delivers Ctrl-C only between waits


def start_detached(function: Callable[[], T]) -> Future[T]:
    """Call a function in a thread of its own, which ends with the process.

    The process would not end before the threads of an executor have ended, and a thread that hangs cannot be
    stopped. Whoever waits for the result, in the main thread or in an event loop, can be interrupted.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from now on it cannot be cancelled, only be left alone

    def call() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - raised where the result is read
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=call, name="detached", daemon=True).start()
    return future


def call_interruptibly(function: Callable[[], T]) -> T:
    """Call a function so that a signal ends the wait for it at once, whatever it waits for."""
    future = start_detached(function)
    while not wait([future], POLL_S).done:
        pass
    return future.result()

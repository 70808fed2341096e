"""Wait for a condition, instead of sleeping for a fixed time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_S = 0.01


def wait_until(condition: Callable[[], object], *, timeout: float = 10.0) -> None:
    """Return once `condition()` is true.

    Raises:
        TimeoutError: it is still false after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still false after {timeout} s: {condition}")
        time.sleep(POLL_S)


async def wait_until_async(condition: Callable[[], object], *, timeout: float = 10.0) -> None:  # noqa: ASYNC109
    """Return once `condition()` is true.

    Raises:
        TimeoutError: it is still false after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still false after {timeout} s: {condition}")
        await asyncio.sleep(POLL_S)

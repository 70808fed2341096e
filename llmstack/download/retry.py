"""How long a download keeps trying: backoff with jitter, Retry-After, and a limit."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.units import MB

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.download.range_response import TransientError

JITTER = 0.5  # a delay is shortened by up to this share, so that clients do not all return at once


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits of one download. Every duration is in seconds.

    Attributes:
        connections: ranges fetched in parallel.
        chunk_bytes: the largest range of one request. Each request goes to the first server again, so that
            the signed address it redirects to never expires.
        stall_s: a connection without data for this long is dropped.
        connect_s: timeout for opening a connection.
        tries: consecutive failures without a new byte after which the download fails.
        backoff_s: the first delay; it doubles up to `max_backoff_s`.
        max_retry_after_s: the longest wait that a server may ask for.
    """

    connections: int = 4
    chunk_bytes: int = 64 * MB
    stall_s: float = 30.0
    connect_s: float = 15.0
    tries: int = 15
    backoff_s: float = 0.5
    max_backoff_s: float = 30.0
    max_retry_after_s: float = 600.0


class Backoff:
    """Counts the failures of one download since its last progress, and waits between tries."""

    def __init__(self, limits: FetchLimits, name: str, notify: Callable[[str], None]) -> None:
        self._limits, self._name, self._notify = limits, name, notify
        self._failures = 0
        self._waiting_until = 0.0

    def reset(self) -> None:
        """Forget the failures, because new bytes arrived."""
        self._failures = 0

    async def wait_after(self, error: TransientError) -> None:
        """Count a failure and wait before the next try.

        Raises:
            LlmstackError: there were too many failures, or the server asks for too long a wait.
        """
        if (remaining := self._waiting_until - time.monotonic()) > 0:
            await asyncio.sleep(remaining)  # connections that fail together count as one failure
            return
        self._failures += 1
        if self._failures >= self._limits.tries:
            raise LlmstackError(
                f"{self._name}: {error} ({self._failures} tries)",
                hint="run the same command again to resume: downloaded bytes are kept",
            ) from error
        wait_s = self._delay()
        if error.wait_s is not None:
            if error.wait_s > self._limits.max_retry_after_s:
                raise LlmstackError(
                    f"{self._name}: {error}, and asks to wait {error.wait_s / 60:.0f} min",
                    hint="run the same command again after that: downloaded bytes are kept",
                ) from error
            wait_s = max(error.wait_s, wait_s)
        self._notify(f"{error}; trying again in {wait_s:.1f} s")
        self._waiting_until = time.monotonic() + wait_s
        await asyncio.sleep(wait_s)

    def _delay(self) -> float:
        """Return the delay after this many failures, with jitter."""
        backoff = min(self._limits.max_backoff_s, self._limits.backoff_s * 2.0 ** (self._failures - 1))
        return backoff * (1 - JITTER * random.random())  # noqa: S311 - not used for anything secret

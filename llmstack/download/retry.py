"""How long to keep trying: backoff with jitter, the server's own wish, and an end."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.download.range_response import TransientError

JITTER = (
    0.5  # a wait is this share of itself shorter, at most, so that many clients do not come back together
)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How to fetch.

    Attributes:
        connections: ranges at once.
        chunk_bytes: the longest range asked for. Each asks the first server anew, so that the signed address
            it redirects to never gets old.
        stall_s: nothing for that long, and the connection is given up.
        tries: failures in a row without a new byte until the whole is given up.
        backoff_s: the first pause; it doubles up to `longest_s`.
        patience_s: the longest wait a server may ask for.
    """

    connections: int = 4
    chunk_bytes: int = 64 * 1024**2
    stall_s: float = 30.0
    connect_s: float = 15.0
    tries: int = 15
    backoff_s: float = 0.5
    longest_s: float = 30.0
    patience_s: float = 600.0


class Patience:
    """Counts the failures of one fetch since its last progress."""

    def __init__(self, limits: FetchLimits, name: str, tell: Callable[[str], None]) -> None:
        self._limits, self._name, self._tell = limits, name, tell
        self._failures = 0
        self._pausing_until = 0.0

    def progressed(self) -> None:
        """Bytes came that were never here before."""
        self._failures = 0

    async def after(self, failure: TransientError) -> None:
        """Wait before the next try.

        Raises:
            LlmstackError: there were too many, or the server asks for too long a wait.
        """
        if (left := self._pausing_until - time.monotonic()) > 0:
            await asyncio.sleep(left)  # several connections that fail together are one failure
            return
        self._failures += 1
        if self._failures >= self._limits.tries:
            raise LlmstackError(
                f"{self._name}: {failure} ({self._failures} tries)",
                hint="run the same command again to go on: what was fetched is kept",
            ) from failure
        wait_s = self.pause()
        if failure.wait_s is not None:
            if failure.wait_s > self._limits.patience_s:
                raise LlmstackError(
                    f"{self._name}: {failure}, and asks to wait {failure.wait_s / 60:.0f} min",
                    hint="run the same command again then: what was fetched is kept",
                ) from failure
            wait_s = max(failure.wait_s, wait_s)
        self._tell(f"{failure}; trying again in {wait_s:.1f} s")
        self._pausing_until = time.monotonic() + wait_s
        await asyncio.sleep(wait_s)

    def pause(self) -> float:
        """Return the backoff after this many failures, with jitter."""
        backoff = min(self._limits.longest_s, self._limits.backoff_s * 2.0 ** (self._failures - 1))
        return backoff * (1 - JITTER * random.random())  # noqa: S311 - no secret hangs on it

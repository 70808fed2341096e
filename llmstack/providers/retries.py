"""How often and after how long a failed call is repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.providers.errors import ProviderError, RateLimitedError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Repeats transient failures with exponential backoff and jitter.

    Attributes:
        max_retries: how often a call is repeated after its first try.
        first_wait_s: seconds before the first retry; doubled for each further one.
        max_wait_s: longest wait in seconds; if a provider asks for more, the call fails at once.
        jitter: returns a random number from 0 to 1; a wait is between half and all of its nominal length,
            so that clients which failed together do not retry together.
    """

    max_retries: int = 2
    first_wait_s: float = 0.5
    max_wait_s: float = 30.0
    jitter: Callable[[], float] = random.random

    def next_wait_s(self, error: ProviderError, retries: int) -> float | None:
        """Return the seconds to wait before the next retry; None if there is to be none.

        Args:
            error: how the last try failed.
            retries: how often the call was repeated so far.
        """
        if retries >= self.max_retries or not error.transient:
            return None
        if isinstance(error, RateLimitedError) and error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.max_wait_s else None
        backoff = min(self.first_wait_s * 2**retries, self.max_wait_s)
        return float(backoff * (0.5 + self.jitter() / 2))

"""Trying again: what is transient only, later each time, and never in step with others."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.providers.errors import ProviderError, RateLimitedError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and after how long.

    Attributes:
        times: after the first try.
        first_s: seconds before the second try; doubled each time.
        longest_s: the most that is waited; a provider that asks for more is not waited for.
        jitter: gives the share of the time that is left to chance, 0 to 1.
    """

    times: int = 2
    first_s: float = 0.5
    longest_s: float = 30.0
    jitter: Callable[[], float] = random.random

    def wait(self, error: ProviderError, tried: int) -> float | None:
        """Return seconds until the next try; None where there is to be none.

        Args:
            error: what the last try ended with.
            tried: how often it was tried again already.
        """
        if tried >= self.times or not error.transient:
            return None
        if isinstance(error, RateLimitedError) and error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest_s else None
        backoff = min(self.first_s * 2**tried, self.longest_s)
        return float(backoff * (0.5 + self.jitter() / 2))

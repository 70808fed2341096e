"""The requests that wait for a model of the pool, in the order of arrival."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.serving.errors import TierUnavailableError
from llmstack.serving.pool.scheduler import Waiter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.errors import LlmstackError
    from llmstack.serving.pool.loaded_model import Grant, LoadedModel


@dataclass(slots=True)
class WaitingRequest:
    """A request in the queue."""

    tier: str
    since: float
    session: str = ""
    granted: asyncio.Future[Grant] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def refuse(self, error: TierUnavailableError) -> None:
        """End its wait with an error."""
        with contextlib.suppress(asyncio.InvalidStateError):
            self.granted.set_exception(error)

    @property
    def grant(self) -> Grant | None:
        """The model and slot that it was granted; None if it was not."""
        is_granted = self.granted.done() and not self.granted.cancelled() and self.granted.exception() is None
        return self.granted.result() if is_granted else None


class Queue:
    """The requests that wait.

    Args:
        max_per_model: requests that may wait for one model.
    """

    def __init__(self, max_per_model: int) -> None:
        self._max_per_model = max_per_model
        self._requests: dict[int, WaitingRequest] = {}
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        """Return whether a request waits."""
        return bool(self._requests)

    def add(self, request: WaitingRequest) -> int:
        """Add a request; return its number.

        Raises:
            TierUnavailableError: too many requests wait for its model.
        """
        if self.waiting(request.tier) >= self._max_per_model:
            raise TierUnavailableError(
                f"{self._max_per_model} requests are waiting for {request.tier} already", retry_after=10
            )
        number = next(self._numbers)
        self._requests[number] = request
        return number

    def remove(self, number: int) -> bool:
        """Remove a request; return whether it was still in the queue."""
        return self._requests.pop(number, None) is not None

    def grant(self, number: int, models: Mapping[str, LoadedModel]) -> None:
        """Give a request a slot of its model."""
        request = self._requests.pop(number)
        request.granted.set_result(models[request.tier].grant(request.session))

    def refuse(self, tier: str, error: LlmstackError) -> None:
        """End the wait of every request for a tier with an error."""
        for request in self._requests.values():
            if request.tier == tier:
                request.refuse(TierUnavailableError(error.message, hint=error.hint))

    def close(self, error: TierUnavailableError) -> None:
        """End every wait with an error."""
        for request in self._requests.values():
            request.refuse(error)

    def waiting(self, tier: str) -> int:
        """Return how many requests wait for a tier."""
        return sum(request.tier == tier for request in self._requests.values()) if self._requests else 0

    def tiers(self) -> set[str]:
        """Return the tiers that requests wait for."""
        return {request.tier for request in self._requests.values()}

    def waiters(self) -> list[Waiter]:
        """Return the requests that are neither granted nor refused, the oldest first."""
        return [
            Waiter(number, request.tier, request.since)
            for number, request in self._requests.items()
            if not request.granted.done()
        ]

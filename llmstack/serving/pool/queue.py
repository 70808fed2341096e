"""The requests that wait for a model of the built-in pool, in the order of arrival."""

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
class Request:
    """One that waits."""

    tier: str
    since: float
    session: str = ""
    granted: asyncio.Future[Grant] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def refuse(self, error: TierUnavailableError) -> None:
        """Tell it why it cannot be served."""
        with contextlib.suppress(asyncio.InvalidStateError):
            self.granted.set_exception(error)

    @property
    def lease(self) -> Grant | None:
        """The model and slot it was granted, if it was."""
        over = self.granted.done() and not self.granted.cancelled() and self.granted.exception() is None
        return self.granted.result() if over else None


class Queue:
    """All of them.

    Args:
        most: that may wait for one model.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._requests: dict[int, Request] = {}
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        """Return whether anybody waits."""
        return bool(self._requests)

    def join(self, request: Request) -> int:
        """Take a request in; return its number.

        Raises:
            TierUnavailableError: too many wait for its model.
        """
        if self.waiting(request.tier) >= self._most:
            raise TierUnavailableError(
                f"{self._most} requests are waiting for {request.tier} already", retry_after=10
            )
        number = next(self._numbers)
        self._requests[number] = request
        return number

    def leave(self, number: int) -> bool:
        """Let a request go; return whether it was still in the queue."""
        return self._requests.pop(number, None) is not None

    def grant(self, number: int, models: Mapping[str, LoadedModel]) -> None:
        """Give a request a slot of its model."""
        request = self._requests.pop(number)
        request.granted.set_result(models[request.tier].grant(request.session))

    def refuse(self, tier: str, error: LlmstackError) -> None:
        """Tell everybody who waits for a tier why it cannot be served."""
        for request in self._requests.values():
            if request.tier == tier:
                request.refuse(TierUnavailableError(error.message, hint=error.hint))

    def close(self, error: TierUnavailableError) -> None:
        """Tell everybody why nothing is served any more."""
        for request in self._requests.values():
            request.refuse(error)

    def waiting(self, tier: str) -> int:
        """Return how many wait for a tier."""
        return sum(request.tier == tier for request in self._requests.values()) if self._requests else 0

    def tiers(self) -> set[str]:
        """Return the tiers that somebody waits for."""
        return {request.tier for request in self._requests.values()}

    def waiters(self) -> list[Waiter]:
        """Return those that have no answer yet, the oldest first."""
        return [
            Waiter(number, request.tier, request.since)
            for number, request in self._requests.items()
            if not request.granted.done()
        ]

"""A model of the pool while it holds memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from llmstack.serving.base import ModelState
from llmstack.serving.pool.scheduler import Running

if TYPE_CHECKING:
    from llmstack.serving.base import State
    from llmstack.serving.kv.cache import ModelKv
    from llmstack.serving.pool.model_server import ModelServer
    from llmstack.serving.pool.slots import Slot, Slots

_REPORTED_STATE: dict[str, State] = {"starting": "loading", "ready": "resident", "stopping": "idle"}


@dataclass(slots=True)
class LoadedModel:
    """A model server, its state and its leases.

    Attributes:
        since: when its state began; `last_used` is when its last lease was given back.
        ended: set when its process has ended.
        leases: requests in flight; `reads` are those that only read, and need no slot.
        load_s: seconds that its start took.
        unload_requested: it is to be stopped once its requests have ended.
        kv: saves its prompt caches once it is ready; None if they are not saved.
    """

    server: ModelServer
    since: float
    slots: Slots
    state: Literal["starting", "ready", "stopping"] = "starting"
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    leases: int = 0
    reads: int = 0
    load_s: float = 0.0
    last_used: float = 0.0
    unload_requested: bool = False
    kv: ModelKv | None = None

    @property
    def has_free_slot(self) -> bool:
        """Whether it can serve one more request now."""
        return self.state == "ready" and not self.unload_requested and self.leases < len(self.slots.all)

    def set_state(self, state: Literal["ready", "stopping"], now: float) -> None:
        """Enter another state."""
        self.state, self.since = state, now

    def grant(self, session: str) -> Grant:
        """Give a request of a conversation a slot."""
        self.leases += 1
        return self, self.slots.acquire(session)

    def running(self, ttl: float) -> Running:
        """Return its state as the scheduler sees it."""
        return Running(
            state=self.state,
            # Reads keep it from being stopped, and take nothing from its slots.
            leases=self.leases + self.reads,
            slots=len(self.slots.all) + self.reads,
            ready_since=self.since,
            load_s=self.load_s,
            last_used=self.last_used,
            ttl=ttl,
            unload_requested=self.unload_requested,
        )

    def model_state(self, *, now: float, waiting: int, loads: int) -> ModelState:
        """Return its state as the router reports it."""
        return ModelState(
            state=_REPORTED_STATE[self.state],
            pid=self.server.pid,
            port=self.server.port,
            since=now - self.since,
            leases=self.leases + self.reads,
            waiting=waiting,
            loads=loads,
        )

    async def stop(self) -> None:
        """Save the contents of its slots, then stop its server."""
        if self.kv is not None:
            await self.kv.save_all(self.slots)
        await self.server.stop()


Grant: TypeAlias = "tuple[LoadedModel, Slot]"

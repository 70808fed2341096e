"""A model of the built-in pool while it holds memory."""

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

_SHOWN_AS: dict[str, State] = {"starting": "loading", "ready": "resident", "stopping": "idle"}


@dataclass(slots=True)
class LoadedModel:
    """A model server and who uses it.

    Attributes:
        since: when its state began; `last_used` when its last lease was given back.
        gone: its process has ended.
        leases: requests in flight.
        load_s: seconds that its start took.
        unwanted: it is to be stopped once its requests have ended.
        kv: saves its prompts once it is ready, where that is wanted.
    """

    server: ModelServer
    since: float
    slots: Slots
    state: Literal["starting", "ready", "stopping"] = "starting"
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    leases: int = 0
    load_s: float = 0.0
    last_used: float = 0.0
    unwanted: bool = False
    kv: ModelKv | None = None

    @property
    def free(self) -> bool:
        """Whether it takes a request now, where nobody waits."""
        return self.state == "ready" and not self.unwanted and self.leases < len(self.slots.all)

    def enter(self, state: Literal["ready", "stopping"], now: float) -> None:
        """Begin another state."""
        self.state, self.since = state, now

    def grant(self, session: str) -> Grant:
        """Give a slot to a request of a conversation."""
        self.leases += 1
        return self, self.slots.take(session)

    def running(self, ttl: float) -> Running:
        """Return what a decision is given of it."""
        return Running(
            state=self.state,
            leases=self.leases,
            slots=len(self.slots.all),
            ready_since=self.since,
            load_s=self.load_s,
            last_used=self.last_used,
            ttl=ttl,
            unwanted=self.unwanted,
        )

    def shown(self, *, now: float, waiting: int, loads: int) -> ModelState:
        """Return what is told of it."""
        return ModelState(
            state=_SHOWN_AS[self.state],
            pid=self.server.pid,
            port=self.server.port,
            since=now - self.since,
            leases=self.leases,
            waiting=waiting,
            loads=loads,
        )

    async def stop(self) -> None:
        """Save what its slots hold, then end its server."""
        if self.kv is not None:
            await self.kv.leave(self.slots)
        await self.server.stop()


Grant: TypeAlias = "tuple[LoadedModel, Slot]"

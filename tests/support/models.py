"""A model server made up for tests of the pool, at its Protocol."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class FakeServer:
    """Loads for `load_s`, or until `loaded` is set where that is None; then runs until stopped or crashed."""

    tier: str
    load_s: float | None = 0.0
    error: str | None = None
    stop_s: float = 0.0
    pid: int | None = None
    port: int | None = 1
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    place: None = None

    @property
    def url(self) -> str:
        return f"http://{self.tier}"

    @property
    def up(self) -> bool:
        return self.pid is not None and not self.gone.is_set()

    async def start(self) -> None:
        self.pid = 1
        waits = [asyncio.create_task(self._loading()), asyncio.create_task(self._gone())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self.gone.is_set():
            raise LlmstackError(f"{self.tier} was stopped")
        if self.error:
            self.gone.set()
            raise LlmstackError(self.error, hint="mend it")

    async def _loading(self) -> None:
        if self.load_s is None:
            await self.loaded.wait()
        else:
            await asyncio.sleep(self.load_s)

    async def _gone(self) -> None:
        await self.gone.wait()

    async def stop(self) -> None:
        self.stopping = True
        await asyncio.sleep(self.stop_s)
        self.gone.set()

    async def ended(self) -> None:
        await self.gone.wait()

    async def failure(self) -> str | None:
        return f"{self.tier} crashed" if self.gone.is_set() else None

    async def explain(self, status: int, body: bytes) -> str | None:  # noqa: ARG002 - all answers are its own
        return None

    def crash(self) -> None:
        self.gone.set()


class Servers:
    """Makes the servers of a pool, and remembers them."""

    def __init__(self, **about: Mapping[str, object]) -> None:
        self.made: list[FakeServer] = []
        self.about = about
        self.most = 0

    def __call__(self, tier: str) -> FakeServer:
        server = FakeServer(tier, **self.about.get(tier, {}))  # type: ignore[arg-type]
        self.made.append(server)
        self.most = max(self.most, len(self.up) + 1)
        return server

    def of(self, tier: str) -> list[FakeServer]:
        return [server for server in self.made if server.tier == tier]

    @property
    def up(self) -> list[FakeServer]:
        return [server for server in self.made if server.up]

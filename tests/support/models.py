"""Fake model servers for tests of the pool, which implement its protocol."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class FakeServer:
    """A model server without a process.

    Attributes:
        load_s: seconds that loading takes; None to load until `loaded` is set.
        error: the message of the error that loading ends with.
        stop_s: seconds that stopping takes.
        exited: set when it was stopped or has crashed.
        stopping: whether `stop` was called.
    """

    tier: str
    load_s: float | None = 0.0
    error: str | None = None
    stop_s: float = 0.0
    pid: int | None = None
    port: int | None = 1
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    kv_directory: None = None

    @property
    def url(self) -> str:
        return f"http://{self.tier}"

    @property
    def up(self) -> bool:
        return self.pid is not None and not self.exited.is_set()

    async def start(self) -> None:
        self.pid = 1
        tasks = [asyncio.create_task(self._load()), asyncio.create_task(self._wait_for_exit())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        if self.exited.is_set():
            raise LlmstackError(f"{self.tier} was stopped")
        if self.error:
            self.exited.set()
            raise LlmstackError(self.error, hint="fix it")

    async def _load(self) -> None:
        if self.load_s is None:
            await self.loaded.wait()
        else:
            await asyncio.sleep(self.load_s)

    async def _wait_for_exit(self) -> None:
        await self.exited.wait()

    async def stop(self) -> None:
        self.stopping = True
        await asyncio.sleep(self.stop_s)
        self.exited.set()

    async def wait(self) -> None:
        await self.exited.wait()

    async def failure(self) -> str | None:
        return f"{self.tier} crashed" if self.exited.is_set() else None

    async def explain(self, status: int, body: bytes) -> str | None:  # noqa: ARG002 - all answers are its own
        return None

    def crash(self) -> None:
        self.exited.set()


class FakeServers:
    """Creates the servers of a pool, and keeps a list of them.

    Args:
        options: the attributes of each tier's server.
    """

    def __init__(self, **options: Mapping[str, object]) -> None:
        self.created: list[FakeServer] = []
        self.options = options
        self.max_running = 0

    def __call__(self, tier: str) -> FakeServer:
        server = FakeServer(tier, **self.options.get(tier, {}))  # type: ignore[arg-type]
        self.created.append(server)
        self.max_running = max(self.max_running, len(self.running) + 1)
        return server

    def for_tier(self, tier: str) -> list[FakeServer]:
        return [server for server in self.created if server.tier == tier]

    @property
    def running(self) -> list[FakeServer]:
        return [server for server in self.created if server.up]

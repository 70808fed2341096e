"""The router under its real server on a real socket, in front of a server that misbehaves as told."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from llmstack.channel import CURRENT
from llmstack.config.model import BackendKind, GgufModel, Role, Routing, Settings, StackConfig, Tier
from llmstack.paths import Project
from llmstack.router.admin.status_json import status
from llmstack.router.app import RouterApp
from llmstack.router.auth import RequestAuth
from llmstack.router.http.limits import HttpLimits
from llmstack.router.http.server import Server
from llmstack.router.keepalive import WaitTimeouts
from llmstack.router.service import Service
from llmstack.serving.base import NO_DEFAULTS, ModelState
from llmstack.serving.errors import TierUnavailableError
from llmstack.serving.http_request import send_to
from llmstack.serving.memory.eviction import memory_plan
from llmstack.serving.memory.preflight import Obstacle
from llmstack.serving.memory.survey import Survey, TierSurvey
from llmstack.serving.remote.base import RemoteBackend
from llmstack.upstream.client import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from llmstack.serving.base import Backend, ModelRequest, ServerResponse

T = TypeVar("T")
DEADLINE_S = 10.0
ENGINE_KEY = "engine-key-5d41402a"
FAST_WAITS = WaitTimeouts(quiet_s=0.1, comment_s=0.05)
PATIENT = WaitTimeouts(quiet_s=60.0, comment_s=60.0)


def tier(name: str, role: Role | None, ctx_size: int = 64_000, *aliases: str) -> Tier:
    model = GgufModel(path=Path(f"/models/{name}.gguf"))
    return Tier(name, BackendKind.GGUF, model, ctx_size, role=role, aliases=aliases)


FAST = tier("code-fast", Role.FAST, 131_072)
SMART = tier("code-smart", Role.AGENT, 65_536, "agent")
ULTRA = tier("code-ultra", Role.ULTRA, 200_000)
PLAN = tier("plan", Role.PLAN, 131_072)


def config(*tiers: Tier, routing: Routing | None = None) -> StackConfig:
    return StackConfig(
        Settings(),
        routing or Routing(),
        {tier.name: tier for tier in tiers or (FAST, SMART, ULTRA, PLAN)},
        text="; the file\n[code-fast]\n",
    )


async def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        await asyncio.sleep(0.005)


# What stands behind the router


@dataclass
class Asked:
    """A request as the model server got it."""

    line: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes, *, status: str = "200 OK", kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        await self.say(head.encode() + body)

    async def start_stream(self, *headers: str) -> None:
        lines = ("HTTP/1.1 200 OK", "content-type: text/event-stream", "transfer-encoding: chunked", *headers)
        await self.say("\r\n".join((*lines, "", "")).encode())

    async def chunk(self, data: bytes) -> None:
        await self.say(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.say(b"0\r\n\r\n")

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.writer.transport.abort()

    async def until_hung_up(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(4096):
                pass


@dataclass
class ModelServer:
    """A server that answers each request as its script says."""

    script: Callable[[Asked], Awaitable[None]]
    url: str = ""
    requests: list[Asked] = field(default_factory=list)
    connections: int = 0
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                line, *lines = head.decode("latin-1").rstrip().split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                asked = Asked(line, headers, body, reader, writer)
                self.requests.append(asked)
                await self.script(asked)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def model_server(script: Callable[[Asked], Awaitable[None]]) -> AsyncIterator[ModelServer]:
    behind = ModelServer(script)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await behind.serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**26)
    behind.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield behind
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await until(lambda: not tasks, "the model server's connections are closed")


class FakeLease:
    origin: Literal["engine"] = "engine"
    secrets = ()

    def __init__(self, swapper: FakeSwapper, name: str) -> None:
        self._swapper = swapper
        self.tier = self.model = name
        self.defaults = NO_DEFAULTS
        self.url = swapper.url
        self.slot: int | None = None
        self.kv = ""
        self.headers: Mapping[str, str] = {"authorization": f"Bearer {ENGINE_KEY}"}

    async def send(self, request: ModelRequest) -> ServerResponse:
        return await send_to(self._swapper.upstream, self, request)

    async def failure(self) -> str | None:
        return self._swapper.last_words

    async def explain(self, status: int, body: bytes) -> str | None:
        return self._swapper.explains(status, body)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await asyncio.sleep(0)  # the built-in pool waits here at times; its client may leave meanwhile
        finally:
            self._swapper.held -= 1


class FakeSwapper:
    """Hands out leases of one server, when told to."""

    kind: Literal["builtin", "llama-swap"] = "builtin"
    loads_models = True
    prompt_cache = "not saved: a test"

    def __init__(self, url: str = "http://127.0.0.1:1") -> None:
        self.url = url
        self.upstream = Upstream()
        self.ready = asyncio.Event()
        self.ready.set()
        self.refuses: TierUnavailableError | None = None
        self.last_words: str | None = None
        self.explains: Callable[[int, bytes], str | None] = lambda _status, _body: None
        self.granted = self.held = self.waiting = 0
        self.loaded: list[str] = []
        self.sessions: list[str] = []
        self.tiers: Collection[str] = ()

    async def acquire(self, tier: str, session: str = "", *, pinned: bool = True) -> FakeLease:  # noqa: ARG002 - a fake has no slots
        self.sessions.append(session)
        self.waiting += 1
        try:
            await self.ready.wait()
        finally:
            self.waiting -= 1
        if self.refuses is not None:
            raise self.refuses
        self.granted += 1
        self.held += 1
        return FakeLease(self, tier)

    def states(self) -> Mapping[str, ModelState]:
        up = {name: ModelState("resident", pid=17, port=10_001) for name in self.loaded}
        return {name: ModelState("idle") for name in self.tiers} | up

    def state(self, tier: str) -> ModelState:
        return self.states()[tier]

    def status(self) -> None:
        """Nothing is said of it."""

    def has_free_slot(self, tier: str) -> bool:
        return tier in self.loaded

    def loaded_tiers(self) -> frozenset[str]:
        return frozenset(self.loaded)

    async def load(self, tier: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        if tier not in self.loaded:
            self.loaded.append(tier)

    async def unload(self, tier: str) -> bool:
        if tier not in self.loaded:
            return False
        self.loaded.remove(tier)
        return True

    async def reload(self, config: StackConfig, survey: Survey) -> list[str]:  # noqa: ARG002 - of the Protocol
        self.loaded = [name for name in self.loaded if name in config.tiers]
        return []

    async def close(self) -> None:
        self.loaded.clear()


class FakeHosted(RemoteBackend):
    """Serves the tiers that are not gguf, from the same server."""

    def __init__(self, swapper: FakeSwapper) -> None:
        self._swapper = swapper

    async def acquire(self, tier: str, session: str = "", *, pinned: bool = True) -> FakeLease:
        return await self._swapper.acquire(tier, session, pinned=pinned)

    def state(self, tier: str) -> ModelState:
        return self._swapper.state(tier)

    def status(self) -> None:
        """Nothing is said of it."""

    async def reload(self, config: StackConfig, survey: Survey) -> list[str]:  # noqa: ARG002 - as above
        return []

    async def close(self) -> None:
        """Nothing was started."""


# The router itself


@dataclass
class Running:
    """A router that serves."""

    port: int
    app: RouterApp
    server: Server
    swapper: FakeSwapper

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def recent(self) -> list[dict[str, Any]]:
        records = status(self.app.service)["recent"]
        assert isinstance(records, list)
        return records

    async def idle(self) -> None:
        """Wait until no request runs and every lease was given back."""
        swapper, service = self.swapper, self.app.service
        await until(lambda: not (service.in_flight or swapper.held or swapper.waiting), "the router is idle")


@dataclass(frozen=True)
class Setup:
    stack: StackConfig = field(default_factory=config)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    auth: RequestAuth = RequestAuth("127.0.0.1", (), "", "LLMSTACK_API_KEY")  # noqa: RUF009 - frozen
    timeouts: WaitTimeouts = PATIENT
    limits: HttpLimits = HttpLimits()  # noqa: RUF009 - frozen


def _survey(setup: Setup) -> Survey:
    def look(name: str) -> TierSurvey:
        why = setup.unavailable.get(name)
        return TierSurvey(obstacle=Obstacle(why, "mend it") if why else None)

    plan = memory_plan({}, budget=2**30, preloaded=None)
    return Survey(None, {name: look(name) for name in setup.stack.tiers}, plan)


@contextlib.asynccontextmanager
async def router(swapper: FakeSwapper, setup: Setup | None = None) -> AsyncIterator[Running]:
    setup = setup or Setup()
    swapper.tiers = setup.stack.tiers
    hosted: Backend = FakeHosted(swapper)

    async def make_service() -> Service:
        return Service(
            project=Project.at(Path("/work-dir"), {}),
            channel=CURRENT,
            config=setup.stack,
            auth=setup.auth,
            survey=_survey(setup),
            swapper=swapper,
            backends=dict.fromkeys(BackendKind, hosted) | {BackendKind.GGUF: swapper},
            upstream=Upstream(),
            env={},
        )

    app = RouterApp(make_service, setup.timeouts)
    server = Server(app, setup.limits)
    listening = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve(listening))
    try:
        await until(lambda: server.started or task.done(), "the router has started")
        yield Running(listening.getsockname()[1], app, server, swapper)
    finally:
        server.stop()
        await task
        listening.close()


@contextlib.asynccontextmanager
async def stack(
    script: Callable[[Asked], Awaitable[None]],
    setup: Setup | None = None,
    swapper: FakeSwapper | None = None,
) -> AsyncIterator[tuple[Running, ModelServer]]:
    """A router in front of a model server."""
    swapper = swapper or FakeSwapper()
    async with model_server(script) as behind, router(swapper, setup) as running:
        swapper.url = behind.url
        yield running, behind


@contextlib.contextmanager
def in_thread(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Keep something asynchronous open in a loop of its own, for a test that is not."""
    box: queue.Queue[tuple[T, asyncio.AbstractEventLoop, asyncio.Event] | BaseException] = queue.Queue()

    async def keep() -> None:
        async with make() as made:
            done = asyncio.Event()
            box.put((made, asyncio.get_running_loop(), done))
            await done.wait()

    def run() -> None:
        try:
            asyncio.run(keep())
        except BaseException as error:
            box.put(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    got = box.get(timeout=DEADLINE_S)
    if isinstance(got, BaseException):
        raise got
    made, loop, done = got
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(DEADLINE_S)

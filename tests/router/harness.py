"""The router with its real HTTP server on a real socket, in front of a model server that follows a script."""

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
from llmstack.paths import Project, UserDirs
from llmstack.router.admin.status_json import status
from llmstack.router.app import RouterApp
from llmstack.router.auth import RequestAuth
from llmstack.router.http.limits import HttpLimits
from llmstack.router.http.server import Server
from llmstack.router.keepalive import WaitTimeouts
from llmstack.router.service import Service
from llmstack.router_proof import RouterIdentity
from llmstack.serving.base import NO_SAMPLING_DEFAULTS, ModelState
from llmstack.serving.errors import FailureReport, RequestFailedError
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
    from llmstack.serving.errors import TierUnavailableError

T = TypeVar("T")
DEADLINE_S = 10.0
ENGINE_KEY = "engine-key-5d41402a"
OWNER_TOKEN = "owner-token-b9e1"
SHORT_TIMEOUTS = WaitTimeouts(quiet_s=0.1, comment_s=0.05)
LONG_TIMEOUTS = WaitTimeouts(quiet_s=60.0, comment_s=60.0)


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


async def wait_until(condition: Callable[[], bool], description: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait until a condition is true; fail with its description after a timeout."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s: {description}")
        await asyncio.sleep(0.005)


# The model server


@dataclass
class IncomingRequest:
    """A request that the model server received, and the ways to respond to it."""

    line: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def respond(
        self, body: bytes, *, status: str = "200 OK", content_type: str = "application/json"
    ) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
        await self.send(head.encode() + body)

    async def start_stream(self, *headers: str) -> None:
        lines = ("HTTP/1.1 200 OK", "content-type: text/event-stream", "transfer-encoding: chunked", *headers)
        await self.send("\r\n".join((*lines, "", "")).encode())

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.writer.transport.abort()

    async def wait_until_disconnected(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(4096):
                pass


@dataclass
class ScriptedServer:
    """A server that runs its script for each request.

    Attributes:
        connections: how many were opened so far; `open` are open now.
    """

    script: Callable[[IncomingRequest], Awaitable[None]]
    url: str = ""
    requests: list[IncomingRequest] = field(default_factory=list)
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
                request = IncomingRequest(line, headers, body, reader, writer)
                self.requests.append(request)
                await self.script(request)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def scripted_server(
    script: Callable[[IncomingRequest], Awaitable[None]],
) -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer(script)
    tasks: set[asyncio.Task[None]] = set()

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await scripted.serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0, limit=2**26)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield scripted
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await wait_until(lambda: not tasks, "the model server's connections are closed")


class FakeLease:
    origin: Literal["engine"] = "engine"
    secrets = ()

    def __init__(self, swapper: FakeSwapper, name: str) -> None:
        self._swapper = swapper
        self.tier = self.model = name
        self.defaults = NO_SAMPLING_DEFAULTS
        self.url = swapper.url
        self.slot: int | None = None
        self.kv = ""
        self.headers: Mapping[str, str] = {"authorization": f"Bearer {ENGINE_KEY}"}

    async def send(self, request: ModelRequest) -> ServerResponse:
        return await send_to(self._swapper.upstream, self, request)

    async def failure(self) -> str | None:
        return self._swapper.failure_reason

    async def explain(self, status: int, body: bytes) -> str | None:
        return self._swapper.explanation(status, body)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await asyncio.sleep(0)  # the built-in pool waits here at times; its client may leave meanwhile
        finally:
            self._swapper.leases -= 1


class FakeSwapper:
    """Grants leases of one server once `ready` is set.

    Attributes:
        acquire_error: raised by `acquire` and `load`.
        failure_reason: what a lease returns as the reason why the server ended.
        explanation: returns how a lease explains an error response.
        granted: leases so far; `leases` those not given back yet, `waiting` requests that wait for one.
    """

    kind: Literal["builtin", "llama-swap"] = "builtin"
    loads_models = True
    prompt_cache = "not saved: a test"

    def __init__(self, url: str = "http://127.0.0.1:1") -> None:
        self.url = url
        self.upstream = Upstream()
        self.ready = asyncio.Event()
        self.ready.set()
        self.acquire_error: TierUnavailableError | None = None
        self.failure_reason: str | None = None
        self.explanation: Callable[[int, bytes], str | None] = lambda _status, _body: None
        self.granted = self.leases = self.waiting = 0
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
        if self.acquire_error is not None:
            raise self.acquire_error
        self.granted += 1
        self.leases += 1
        return FakeLease(self, tier)

    async def acquire_loaded(self, tier: str) -> FakeLease:
        if tier not in self.loaded:
            raise RequestFailedError(FailureReport(409, "not_loaded", f"{tier} is not loaded", "swapper"))
        self.granted += 1
        self.leases += 1
        return FakeLease(self, tier)

    def states(self) -> Mapping[str, ModelState]:
        up = {name: ModelState("resident", pid=17, port=10_001) for name in self.loaded}
        return {name: ModelState("idle") for name in self.tiers} | up

    def state(self, tier: str) -> ModelState:
        return self.states()[tier]

    def status(self) -> None:
        """Return None: there is nothing to say."""

    def has_free_slot(self, tier: str) -> bool:
        return tier in self.loaded

    def loaded_tiers(self) -> frozenset[str]:
        return frozenset(self.loaded)

    async def load(self, tier: str) -> None:
        if self.acquire_error is not None:
            raise self.acquire_error
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


class FakeRemoteBackend(RemoteBackend):
    """Serves the tiers that are not gguf from the same server."""

    def __init__(self, swapper: FakeSwapper) -> None:
        self._swapper = swapper

    async def acquire(self, tier: str, session: str = "", *, pinned: bool = True) -> FakeLease:
        return await self._swapper.acquire(tier, session, pinned=pinned)

    def state(self, tier: str) -> ModelState:
        return self._swapper.state(tier)

    def status(self) -> None:
        """Return None: there is nothing to say."""

    async def reload(self, config: StackConfig, survey: Survey) -> list[str]:  # noqa: ARG002 - as above
        return []

    async def close(self) -> None:
        """Do nothing: nothing was started."""


# The router


@dataclass
class RunningRouter:
    """A router that runs, and its parts."""

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

    async def wait_until_idle(self) -> None:
        """Wait until no request runs and every lease was given back."""
        swapper, service = self.swapper, self.app.service
        await wait_until(
            lambda: not (service.in_flight or swapper.leases or swapper.waiting), "the router is idle"
        )


@dataclass(frozen=True)
class Setup:
    """How a router is set up. `unavailable` are tiers that cannot start, with the reason."""

    stack: StackConfig = field(default_factory=config)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    auth: RequestAuth = RequestAuth("127.0.0.1", (), "", "LLMSTACK_API_KEY", OWNER_TOKEN)  # noqa: RUF009 - frozen
    timeouts: WaitTimeouts = LONG_TIMEOUTS
    limits: HttpLimits = HttpLimits()  # noqa: RUF009 - frozen


def _survey(setup: Setup) -> Survey:
    def survey_tier(name: str) -> TierSurvey:
        reason = setup.unavailable.get(name)
        return TierSurvey(obstacle=Obstacle(reason, "fix it") if reason else None)

    plan = memory_plan({}, budget=2**30, preloaded=None)
    return Survey(None, {name: survey_tier(name) for name in setup.stack.tiers}, plan)


@contextlib.asynccontextmanager
async def router(swapper: FakeSwapper, setup: Setup | None = None) -> AsyncIterator[RunningRouter]:
    setup = setup or Setup()
    swapper.tiers = setup.stack.tiers
    remote: Backend = FakeRemoteBackend(swapper)

    async def create_service() -> Service:
        return Service(
            project=Project.at(Path("/work-dir"), {}),
            user=UserDirs(*[Path("/user")] * 5),
            identity=RouterIdentity(OWNER_TOKEN, 10101, None),
            channel=CURRENT,
            config=setup.stack,
            auth=setup.auth,
            survey=_survey(setup),
            swapper=swapper,
            backends=dict.fromkeys(BackendKind, remote) | {BackendKind.GGUF: swapper},
            upstream=Upstream(),
            env={},
        )

    app = RouterApp(create_service, setup.timeouts)
    server = Server(app, setup.limits)
    listening = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve(listening))
    try:
        await wait_until(lambda: server.started or task.done(), "the router has started")
        yield RunningRouter(listening.getsockname()[1], app, server, swapper)
    finally:
        server.stop()
        await task
        listening.close()


@contextlib.asynccontextmanager
async def stack(
    script: Callable[[IncomingRequest], Awaitable[None]],
    setup: Setup | None = None,
    swapper: FakeSwapper | None = None,
) -> AsyncIterator[tuple[RunningRouter, ScriptedServer]]:
    """Run a router in front of a scripted model server."""
    swapper = swapper or FakeSwapper()
    async with scripted_server(script) as server, router(swapper, setup) as running:
        swapper.url = server.url
        yield running, server


@contextlib.contextmanager
def run_in_thread(create: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Keep an async context manager open in a thread with its own event loop, for synchronous tests."""
    outcomes: queue.Queue[tuple[T, asyncio.AbstractEventLoop, asyncio.Event] | BaseException] = queue.Queue()

    async def keep_open() -> None:
        async with create() as value:
            done = asyncio.Event()
            outcomes.put((value, asyncio.get_running_loop(), done))
            await done.wait()

    def run() -> None:
        try:
            asyncio.run(keep_open())
        except BaseException as error:
            outcomes.put(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    outcome = outcomes.get(timeout=DEADLINE_S)
    if isinstance(outcome, BaseException):
        raise outcome
    value, loop, done = outcome
    try:
        yield value
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(DEADLINE_S)

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil
import pytest
from support.native import native_server
from support.net import free_port, listener
from support.waiting import wait_until, wait_until_async

from llmstack.config.model import BackendKind, EngineSettings, GgufModel, Tier
from llmstack.llama_cpp.binary import EngineBinary
from llmstack.llama_cpp.command import server_env, server_flags
from llmstack.llama_cpp.tiny import write_echo, write_random
from llmstack.serving.errors import TierUnavailableError
from llmstack.serving.memory.eviction import MemoryPlan
from llmstack.serving.pool.endpoint import Endpoints
from llmstack.serving.pool.model_server import LlamaServer
from llmstack.serving.pool.pool import Pool
from llmstack.serving.pool.pool_config import PoolConfig
from llmstack.upstream.client import Upstream, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    for name in ("a", "b"):
        write_echo(directory / f"{name}.gguf", speaker=name, context=8192)
    (directory / "bad.gguf").write_bytes((directory / "a.gguf").read_bytes()[:3000])
    return directory


def build(
    models: Path,
    state: Path,
    *,
    first_port: int,
    kind: Literal["native", "bundled"] = "bundled",
    binary: Path | None = None,
    extra: tuple[str, ...] = (),
    budget: int = 2,
) -> Pool:
    engine = EngineBinary(kind, binary or Path(sys.executable))
    endpoints = Endpoints(first_port, frozenset())
    env = server_env(os.environ)

    def server(name: str) -> LlamaServer:
        settings = EngineSettings(threads=1, cache_ram_gb=0, parallel=1, extra_args=extra)
        tier = Tier(name, BackendKind.GGUF, GgufModel(), 2048, engine=settings)
        return LlamaServer(
            name,
            server_flags(tier, models / f"{name}.gguf"),
            engine,
            env=env,
            endpoints=endpoints,
            pid_file=state / f"model-{name}.pid",
            log=state / "logs" / f"{name}.log",
        )

    names = ("a", "b", "bad", "missing", "slow")
    plan = MemoryPlan(budget, dict.fromkeys(names, 1), dict.fromkeys(names, 1.0))
    return Pool(
        PoolConfig(server, plan, ttls=dict.fromkeys(names, 0.0), slots=dict.fromkeys(names, 1)), Upstream()
    )


def pid_files(state: Path) -> list[str]:
    return [path.name for path in state.glob("*.pid")]


@asynccontextmanager
async def pool_of(models: Path, tmp_path: Path, **options: object) -> AsyncIterator[Pool]:
    pool = build(models, tmp_path, **{"first_port": free_port() % 60_000 + 1024, **options})  # type: ignore[arg-type]
    try:
        yield pool
    finally:
        await pool.close()
        assert pid_files(tmp_path) == []


async def chat(url: str, headers: dict[str, str], text: str) -> tuple[int, str]:
    body = {"messages": [{"role": "user", "content": text}]}
    status, data = await ask("POST", f"{url}/v1/chat/completions", headers, json.dumps(body).encode())
    return status, json.loads(data)["choices"][0]["message"]["content"] if status == 200 else ""


async def test_a_model_is_started_used_and_evicted(models: Path, tmp_path: Path) -> None:
    async with pool_of(models, tmp_path, budget=1) as pool:
        for name in ("a", "b", "a"):
            async with await pool.acquire(name) as lease:
                assert await chat(lease.url, dict(lease.headers), "hi") == (200, f"[{name}] You said: hi")
                assert (await chat(lease.url, {}, "hi"))[0] == 401
                assert pid_files(tmp_path) == [f"model-{name}.pid"]
                key = lease.headers["authorization"].removeprefix("Bearer ")
                assert len(key) > 30
                for child in psutil.Process().children(recursive=True):
                    assert key not in " ".join(child.cmdline())


async def test_a_killed_server_reports_why_it_ended_and_is_restarted(models: Path, tmp_path: Path) -> None:
    async with pool_of(models, tmp_path) as pool:
        async with await pool.acquire("a") as lease:
            pid = pool.states()["a"].pid
            assert pid is not None
            assert await lease.failure() is None
            os.kill(pid, signal.SIGKILL)
            assert (await lease.failure() or "").startswith(
                "the model server of a ended (killed by signal 9)"
            )
        async with await pool.acquire("a") as lease:
            assert await chat(lease.url, dict(lease.headers), "again") == (200, "[a] You said: again")
            assert pool.states()["a"].pid != pid


@pytest.mark.parametrize(("name", "reason"), [("bad", "error: "), ("missing", "expected a GGUF file")])
async def test_a_model_that_cannot_start_reports_its_last_log_lines(
    models: Path, tmp_path: Path, name: str, reason: str
) -> None:
    async with pool_of(models, tmp_path) as pool:
        errors = await asyncio.gather(pool.acquire(name), pool.acquire(name), return_exceptions=True)
        for error in errors:
            assert isinstance(error, TierUnavailableError)
            assert error.message.startswith(f"the model server of {name} ended (exit code 1)\n  ")
            assert reason in error.message
            assert error.hint == f"see {tmp_path / 'logs' / name}.log"
        assert pool.states()[name].state == "down"


async def test_a_taken_port_is_skipped(models: Path, tmp_path: Path) -> None:
    options = {"kind": "native", "binary": native_server(tmp_path, old=True)}
    with listener() as other_server:
        port = other_server.getsockname()[1]
        async with (
            pool_of(models, tmp_path, first_port=port, **options) as pool,
            await pool.acquire("a") as lease,
        ):
            assert (pool.states()["a"].port or 0) > port
            assert (await ask("GET", f"{lease.url}/props", lease.headers))[0] == 200


@pytest.mark.parametrize("old", [False, True], ids=["Unix socket", "port"])
async def test_a_native_server_ends_with_its_launcher_and_is_restarted(
    models: Path, tmp_path: Path, *, old: bool
) -> None:
    options = {"kind": "native", "binary": native_server(tmp_path, old=old)}
    async with pool_of(models, tmp_path, **options) as pool:
        async with await pool.acquire("a") as lease:
            launcher = psutil.Process(pool.states()["a"].pid)
            (server,) = launcher.children()
            launcher.kill()
            assert "killed by signal 9" in (await lease.failure() or "")
            # The kernel ends it together with its launcher, but not at the same moment.
            await wait_until_async(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
        async with await pool.acquire("a") as lease:
            assert (await ask("GET", f"{lease.url}/props", lease.headers))[0] == 200
            assert (await ask("GET", f"{lease.url}/props"))[0] == 401
            assert (pool.states()["a"].port is None) == (not old)
    async with pool_of(models, tmp_path, **options, extra=("--fails",)) as pool:
        with pytest.raises(TierUnavailableError, match="the weights are cursed"):
            await pool.acquire("a")


async def test_closing_while_a_model_loads_refuses_its_requests(models: Path, tmp_path: Path) -> None:
    async with pool_of(models, tmp_path) as pool:
        loading = asyncio.create_task(pool.acquire("a"))
        await wait_until_async(lambda: pool.states()["a"].pid)
        await pool.close()
        with pytest.raises(TierUnavailableError, match="the router is stopping"):
            await loading


ROUTER = """
import asyncio, pathlib, sys
sys.path[:0] = [sys.argv[4]]
from serving.pool.test_pool_engine import build

async def main():
    pool = build(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), first_port=int(sys.argv[3]))
    tasks = [asyncio.create_task(pool.load(name)) for name in sys.argv[5:]]
    while any(pool.states()[name].pid is None for name in sys.argv[5:]):
        await asyncio.sleep(0.001)
    if "slow" not in sys.argv:
        await asyncio.gather(*tasks)
    print(*(pool.states()[name].pid for name in sys.argv[5:]), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("names", [("a", "b"), ("a", "slow")], ids=["resident", "while one loads"])
async def test_a_killed_router_leaves_no_model_server(
    models: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    if "slow" in names:
        write_random(models / "slow.gguf", dim=512, layers=24)
    router = await asyncio.create_subprocess_exec(
        sys.executable,
        *(
            "-c",
            ROUTER,
            str(models),
            str(tmp_path),
            str(free_port() % 60_000 + 1024),
            str(Path(__file__).parents[2]),
        ),
        *names,
        stdout=asyncio.subprocess.PIPE,
    )
    assert router.stdout is not None
    servers = [psutil.Process(int(pid)) for pid in (await router.stdout.readline()).split()]
    assert len(servers) == 2
    router.kill()
    await router.wait()
    wait_until(
        lambda: all(not server.is_running() or server.status() == psutil.STATUS_ZOMBIE for server in servers),
        timeout=2,
    )

"""Another user of the machine, who goes for the model servers of the built-in pool."""

from __future__ import annotations

import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import psutil
import pytest
from support.native import native_server
from support.net import free_port
from support.stranger import needs_root, stranger_on, try_to_open
from support.waiting import wait_until_async

from llmstack.config.model import BackendKind, EngineSettings, GgufModel, Tier
from llmstack.llama_cpp.binary import EngineBinary
from llmstack.llama_cpp.command import server_env, server_flags
from llmstack.llama_cpp.tiny import write_echo
from llmstack.process.worker import Worker
from llmstack.serving.base import ModelRequest
from llmstack.serving.errors import TierUnavailableError
from llmstack.serving.memory.eviction import MemoryPlan
from llmstack.serving.pool.endpoint import Endpoints
from llmstack.serving.pool.model_server import LlamaServer
from llmstack.serving.pool.pool import Pool
from llmstack.serving.pool.pool_config import PoolConfig
from llmstack.upstream.client import Upstream, UpstreamError, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROMPT = b'{"messages": [{"role": "user", "content": "the secret prompt"}]}'


class OnePort(Endpoints):
    """Gives every server the same port, as if somebody took it right after it was found to be free."""

    def __init__(self, port: int) -> None:
        super().__init__(port, frozenset())
        self._port = port

    def acquire_port(self, owner: object) -> int:  # noqa: ARG002 - as in the base class
        return self._port


@asynccontextmanager
async def pool_of(tmp_path: Path, engine: EngineBinary, endpoints: Endpoints) -> AsyncIterator[Pool]:
    names = ("a", "b")

    def server(name: str) -> LlamaServer:
        write_echo(tmp_path / f"{name}.gguf", speaker=name, context=8192)
        settings = EngineSettings(threads=1, cache_ram_gb=0, parallel=1)
        tier = Tier(name, BackendKind.GGUF, GgufModel(), 2048, engine=settings)
        return LlamaServer(
            name,
            server_flags(tier, tmp_path / f"{name}.gguf"),
            engine,
            env=server_env(os.environ),
            endpoints=endpoints,
            pid_file=tmp_path / f"model-{name}.pid",
            log=tmp_path / "logs" / f"{name}.log",
        )

    plan = MemoryPlan(2, dict.fromkeys(names, 1), dict.fromkeys(names, 1.0))
    config = PoolConfig(server, plan, ttls=dict.fromkeys(names, 0.0), slots=dict.fromkeys(names, 1))
    async with Upstream() as upstream:
        pool = Pool(config, upstream)
        try:
            yield pool
        finally:
            await pool.close()
            endpoints.close()


def chat_request() -> ModelRequest:
    return ModelRequest(
        method="POST",
        target="/v1/chat/completions",
        headers={},
        body=PROMPT,
        model=None,
        rewrites_body=False,
        has_slot=False,
        format_error=lambda _: b"",
        worker=Worker({}),
    )


@needs_root
@pytest.mark.engine
async def test_the_bundled_engine_cannot_be_reached_by_another_user(tmp_path: Path) -> None:
    engine = EngineBinary("bundled", Path(sys.executable))
    async with (
        pool_of(tmp_path, engine, Endpoints(free_port(), frozenset())) as pool,
        await pool.acquire("a") as lease,
    ):
        path = Path(unquote(lease.url.removeprefix("http+unix://")))
        assert try_to_open(path) == "list: PermissionError\nconnect: PermissionError\n"
        (server,) = [each for each in psutil.Process().children() if str(path) in each.cmdline()]
        assert not [each for each in server.net_connections("inet") if each.status == psutil.CONN_LISTEN]
        with await lease.send(chat_request()) as response:
            answer = json.loads(await response.read(65_536))
        assert answer["choices"][0]["message"]["content"] == "[a] You said: the secret prompt"


async def test_each_server_has_a_key_of_its_own(tmp_path: Path) -> None:
    engine = EngineBinary("native", native_server(tmp_path))
    async with (
        pool_of(tmp_path, engine, Endpoints(free_port(), frozenset())) as pool,
        await pool.acquire("a") as one,
        await pool.acquire("b") as other,
    ):
        assert one.headers != other.headers
        assert (await ask("GET", f"{one.url}/props", one.headers))[0] == 200
        assert (await ask("GET", f"{one.url}/props", other.headers))[0] == 401


@needs_root
async def test_another_user_who_has_the_port_first_is_told_nothing(tmp_path: Path) -> None:
    engine = EngineBinary("native", native_server(tmp_path, old=True))
    port = free_port()
    with stranger_on(port, tmp_path) as stranger:
        await wait_until_async(lambda: stranger.is_listening)
        async with pool_of(tmp_path, engine, OnePort(port)) as pool:
            with pytest.raises(TierUnavailableError, match="the model server of a ended"):
                await pool.acquire("a")
        assert stranger.received == b""


@needs_root
async def test_another_user_who_takes_the_port_of_a_server_that_died_is_told_nothing(tmp_path: Path) -> None:
    engine = EngineBinary("native", native_server(tmp_path, old=True))
    port = free_port()
    async with (
        pool_of(tmp_path, engine, OnePort(port)) as pool,
        await pool.acquire("a") as lease,
    ):
        with stranger_on(port, tmp_path) as stranger:
            launcher = psutil.Process(pool.states()["a"].pid)
            (server,) = launcher.children()
            server.kill()
            await wait_until_async(lambda: stranger.is_listening)
            with pytest.raises(UpstreamError):
                await lease.send(chat_request())
            assert stranger.received == b""

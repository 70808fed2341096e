"""The llama-swap backend without a router, on a fake llama-swap or the real one."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from support.fake_llama_swap import install
from support.native import native_server
from support.net import free_port, listener
from support.waiting import wait_until_async
from support.yaml_text import dump_yaml

from llmstack.config.model import BackendKind, GgufModel, Role, Routing, Settings, StackConfig, Tier
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.binary import EngineBinary
from llmstack.llama_cpp.command import server_env
from llmstack.llama_cpp.parent_watch import PARENT_PID, WATCH_MODE_VARIABLE
from llmstack.process.leftovers import find_instance, instance_id
from llmstack.serving.errors import TierUnavailableError
from llmstack.serving.llama_swap.backend import LlamaSwapBackend
from llmstack.serving.llama_swap.process import LlamaSwapProcess, model_server_lines
from llmstack.serving.memory.eviction import MemoryPlan
from llmstack.serving.memory.survey import Survey, TierSurvey
from llmstack.upstream.client import Upstream, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "the-key-of-this-start"
NAMES = ("a", "b", "bad")


def write_config(tmp_path: Path, **more: Any) -> Path:
    """Write a configuration whose models are fake llama-servers, run by the launcher as in a real stack."""
    engine = EngineBinary("native", native_server(tmp_path))
    models = {
        name: {
            "cmd": " ".join(
                engine.argv(("--port", "${PORT}", "--alias", name, *(["--fails"] if name == "bad" else [])))
            ),
            "proxy": "http://127.0.0.1:${PORT}/hidden",
            "checkEndpoint": "/health",
            "env": [f"{WATCH_MODE_VARIABLE}={PARENT_PID}", "LLAMA_ARG_API_PREFIX=/hidden"],
        }
        for name in NAMES
    }
    path = tmp_path / "llama-swap.yaml"
    first = free_port()
    document = {"apiKeys": [KEY], "startPort": first, "models": models, **more}
    path.write_text(dump_yaml(document))
    return path


def process(tmp_path: Path, port: int | None = None, *, older: bool = False, **more: Any) -> LlamaSwapProcess:
    return LlamaSwapProcess(
        install(tmp_path / "bin", older=older),
        write_config(tmp_path, **more),
        port=port or free_port(),
        env=server_env(os.environ),
        instance=instance_id(tmp_path),
        pid_file=tmp_path / "llama-swap.pid",
        log=tmp_path / "logs" / "llama-swap.log",
    )


def stack(preloaded: str | None) -> tuple[StackConfig, Survey]:
    plan = MemoryPlan(1, dict.fromkeys(NAMES, 1), dict.fromkeys(NAMES, 1.0))
    tiers = {
        name: Tier(name, BackendKind.GGUF, GgufModel(), 4096, role=Role.FAST if name == preloaded else None)
        for name in NAMES
    }
    survey = Survey(None, {name: TierSurvey() for name in NAMES}, plan)
    return StackConfig(Settings(), Routing(), tiers), survey


@asynccontextmanager
async def swapper(
    tmp_path: Path, *, preloaded: str | None = "a", **more: Any
) -> AsyncIterator[LlamaSwapBackend]:
    swap = LlamaSwapBackend(process(tmp_path, **more), *stack(preloaded), Upstream())
    try:
        yield swap
    finally:
        await swap.close()
        assert not find_instance(instance_id(tmp_path))
        assert not (tmp_path / "llama-swap.pid").exists()


async def get(url: str, headers: dict[str, str]) -> int:
    return (await ask("GET", url, headers))[0]


async def test_models_are_preloaded_swapped_and_unloaded(tmp_path: Path) -> None:
    async with swapper(tmp_path) as swap:
        await wait_until_async(lambda: swap.states()["a"].state == "resident")
        async with await swap.acquire("b") as lease:
            assert await get(f"{lease.url}/props", dict(lease.headers)) == 200
            assert await get(f"{lease.url}/props", {}) == 401
            states = swap.states()
            assert (states["a"].state, states["b"].state, states["b"].leases) == ("idle", "resident", 1)
            line = psutil.Process(states["b"].pid).cmdline()
            assert line[line.index("--port") + 1] == str(states["b"].port)
            assert await lease.failure() is None
            assert await lease.explain(400, b"an error of the engine") is None
            assert await lease.explain(500, b'{"error": {"message": "an error of the engine"}}') is None
        assert await swap.unload("b")
        assert not await swap.unload("b")


async def test_a_version_that_requires_no_key_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for older in (False, True):
        async with swapper(tmp_path, preloaded=None, older=older) as swap:
            await swap.load("b")
        assert ("requires no key below /upstream (404)" in caplog.text) == older


async def test_concurrent_requests_share_one_load(tmp_path: Path) -> None:
    async def use(name: str) -> int:
        async with await swap.acquire(name) as lease:
            return await get(f"{lease.url}/props", dict(lease.headers))

    async with swapper(tmp_path) as swap:
        statuses = await asyncio.gather(*(use(name) for name in ["a", "b", "b"] * 10))
        assert statuses == [200] * 30


async def test_a_model_that_fails_to_start_reports_why(tmp_path: Path) -> None:
    async with swapper(tmp_path) as swap:
        with pytest.raises(TierUnavailableError) as raised:
            await swap.acquire("bad")
        assert raised.value.message == "the model server of bad did not start\n  the weights are cursed"
        assert swap.states()["bad"].state == "down"


async def test_a_killed_model_is_noticed_and_explained(tmp_path: Path) -> None:
    async with swapper(tmp_path) as swap:
        async with await swap.acquire("b") as lease:
            pid = swap.states()["b"].pid
            psutil.Process(pid).kill()
            why = await lease.explain(502, b"")
            assert why is not None
            assert why.startswith("the model server of b ended")
        await wait_until_async(lambda: swap.states()["b"].state == "idle")
        async with await swap.acquire("b"):
            assert swap.states()["b"].pid != pid


async def test_llama_swap_is_restarted_after_a_crash(tmp_path: Path) -> None:
    async with swapper(tmp_path) as swap:
        async with await swap.acquire("b") as lease:
            processes = [psutil.Process(each.pid) for each in find_instance(instance_id(tmp_path))]
            lines = {each: each.cmdline() for each in processes}
            (llama_swap,) = [
                each for each in processes if str(tmp_path / "bin" / "llama-swap") in lines[each][:2]
            ]
            llama_swap.kill()
            assert (await lease.failure() or "").startswith("llama-swap ended")
        await wait_until_async(lambda: swap.states()["a"].state == "resident", timeout=15)
        async with await swap.acquire("b") as lease:
            assert await get(f"{lease.url}/props", dict(lease.headers)) == 200


async def test_a_configuration_that_llama_swap_refuses_is_shown(tmp_path: Path) -> None:
    async with swapper(tmp_path, logLevel="${env.NOT_SET_ANYWHERE}") as swap:
        with pytest.raises(TierUnavailableError) as raised:
            await swap.acquire("a")
        first, *lines = raised.value.message.split("\n  ")
        assert first == "llama-swap ended (exit code 1)"
        assert "NOT_SET_ANYWHERE" in "".join(lines)
        assert raised.value.hint == f"see {tmp_path / 'logs' / 'llama-swap.log'}"


async def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    with listener() as other_server:
        port = other_server.getsockname()[1]
        async with swapper(tmp_path, port=port) as swap:
            with pytest.raises(TierUnavailableError, match=f"port {port} for llama-swap is taken by"):
                await swap.acquire("a")


async def test_a_missing_configuration_is_an_error(tmp_path: Path) -> None:
    swap = process(tmp_path)
    (tmp_path / "llama-swap.yaml").unlink()
    with pytest.raises(LlmstackError, match="expected a configuration of llama-swap"):
        await swap.ensure_running()
    await swap.close()


async def test_closing_while_llama_swap_starts_refuses_waiting_requests(tmp_path: Path) -> None:
    async with swapper(tmp_path) as swap:
        waiting = asyncio.create_task(swap.acquire("a"))
        await wait_until_async((tmp_path / "llama-swap.pid").exists)
        await swap.close()
        with pytest.raises(TierUnavailableError, match="the router is stopping"):
            await waiting


async def test_closing_does_not_wait_for_a_reload_that_waits_for_requests(tmp_path: Path) -> None:
    async with swapper(tmp_path, preloaded=None) as swap:
        lease = await swap.acquire("a")
        reloading = asyncio.create_task(swap.reload(*stack(preloaded=None)))
        await wait_until_async(lambda: not swap.has_free_slot("a"))
        async with asyncio.timeout(20):  # less than a reload waits for requests
            await swap.close()
        await reloading
        async with lease:
            pass


def test_llama_swaps_own_lines_are_not_taken_for_a_model_servers() -> None:
    own_lines = [
        "[WARN] <plan> upstream process exited unexpectedly",
        "2026/11/21 16:08:08 http: proxy error: context canceled",
        '2026/11/21 16:12:24 ERROR failed to load config error="empty api key found in apiKeys"',
        "",
    ]
    engine_lines = ["0.00.005.140 I srv    load_model: loading model 'plan.gguf'", "error: no memory"]
    assert model_server_lines([engine_lines[0], *own_lines, engine_lines[1]]) == engine_lines


def test_no_command_line_has_a_secret(tmp_path: Path) -> None:
    async def check() -> None:
        async with swapper(tmp_path) as swap, await swap.acquire("b"):
            identities = find_instance(instance_id(tmp_path))
            assert len(identities) == 4  # llama-swap and its model server, each with a launcher
            lines = [" ".join(psutil.Process(each.pid).cmdline()) for each in identities]
            assert sys.executable in lines[0]
            assert not any(secret in line for line in lines for secret in (KEY, "hidden"))

    asyncio.run(check())

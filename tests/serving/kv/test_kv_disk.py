"""Saving prompt caches that is interrupted, by a full disk or a killed router. On real llama.cpp."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.kv import Talk, swapping
from support.waiting import wait_until_async

from llmstack.llama_cpp.tiny import write_random
from llmstack.serving.errors import TierUnavailableError

pytestmark = pytest.mark.engine
RULE = "You are a careful agent, and these are your rules. "
RULES = [{"role": "system", "content": RULE * 60}]
SHAPE = {"dim": 256, "layers": 8}  # with f32, 16 kB a token: saving takes long enough to be interrupted
KV: dict[str, Any] = {"kv_type": "f32", "parallel": 1}
ROUTER = """
import asyncio, pathlib, sys
sys.path[:0] = [sys.argv[1]]
from serving.kv.test_kv_disk import KV, RULES
from support.kv import Talk, swapping

async def main():
    work_dir, models = map(pathlib.Path, sys.argv[2:])
    async with swapping(work_dir, models, **KV) as swapper:
        await Talk("x", [*RULES]).turn(swapper, "one?")
        print(swapper.states()["a"].pid, flush=True)
        sys.stdin.readline()
        await swapper.load("b")

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    write_random(directory / "a.gguf", **SHAPE, seed=1)
    write_random(directory / "b.gguf", dim=32, layers=1, seed=2)
    return directory


def saved_files(work_dir: Path, *suffixes: str) -> list[Path]:
    return [path for path in (work_dir / "kv").glob("*/*") if path.suffix in suffixes]


def server_processes(pid: int | None) -> list[psutil.Process]:
    """Return a model server's processes: a native one runs below a launcher."""
    process = psutil.Process(pid)
    return [*process.children(), process]


async def test_a_save_that_fails_loses_only_the_cache(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A write that fails, as on a full disk, while a slot changes its conversation and before a swap."""
    long, short = Talk("long", [*RULES]), Talk("short", [{"role": "system", "content": RULE * 25}])
    async with swapping(tmp_path, models, **KV) as swapper:
        for one in (short, long):
            await one.turn(swapper, "one?")
        pid = swapper.states()["a"].pid
        for process in server_processes(pid):
            process.rlimit(psutil.RLIMIT_FSIZE, (10_000_000, 10_000_000))  # 600 tokens
        assert (await short.turn(swapper, "two?")).kv.startswith("restored ")
        assert (await long.turn(swapper, "two?")).kv == ""
        assert swapper.states()["a"].pid == pid  # the server has survived
        await swapper.load("b")
        assert caplog.text.count("Unable to save slot") == 2
        assert len(saved_files(tmp_path, ".kv")) == 1
        assert not saved_files(tmp_path, ".part")
        before = [*long.messages]
        cold = await long.turn(swapper, "three?")
        assert (cold.kv, cold.cache_n) == ("", 0)
    async with swapping(tmp_path / "fresh", models, **KV) as swapper:
        assert (await Talk("x", before).turn(swapper, "three?")).answer == cold.answer


async def test_a_cache_is_saved_if_the_router_stops_during_a_swap(models: Path, tmp_path: Path) -> None:
    conversation = Talk("x", [*RULES])
    async with swapping(tmp_path, models, **KV) as swapper:
        await conversation.turn(swapper, "one?")
        swap = asyncio.create_task(swapper.load("b"))
        await wait_until_async(lambda: saved_files(tmp_path, ".part", ".kv"))
        await swapper.close()
        with pytest.raises(TierUnavailableError, match="the router is stopping"):
            await swap
    async with swapping(tmp_path, models, **KV) as swapper:
        assert (await conversation.turn(swapper, "two?")).kv.startswith("restored ")


def kill_while_saving(models: Path, work_dir: Path) -> bool:
    """Run a router, swap, and kill it as soon as a file exists; return whether the file is incomplete."""
    router = subprocess.Popen(
        [sys.executable, "-c", ROUTER, str(Path(__file__).parents[2]), str(work_dir), str(models)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert router.stdout is not None
    assert router.stdin is not None
    with router:
        engine = server_processes(int(router.stdout.readline()))
        router.stdin.write("\n")
        router.stdin.flush()
        deadline = time.monotonic() + 20
        while not saved_files(work_dir, ".part", ".kv"):
            assert time.monotonic() < deadline
        with contextlib.suppress(psutil.NoSuchProcess):  # it has already saved and ended
            for process in engine:
                process.suspend()
        router.kill()
    _, remaining = psutil.wait_procs(engine, timeout=5)
    assert not remaining
    return not saved_files(work_dir, ".kv")


async def test_an_incomplete_cache_of_a_killed_router_is_not_used(models: Path, tmp_path: Path) -> None:
    tries = (tmp_path / str(number) for number in range(5))
    work_dir = next(each for each in tries if kill_while_saving(models, each))
    (partial,) = saved_files(work_dir, ".part")
    assert partial.stat().st_mode & 0o777 == 0o600
    x = Talk("x", [*RULES])
    async with swapping(work_dir, models, **KV) as swapper:
        cold = await x.turn(swapper, "one?")
        assert (cold.kv, cold.cache_n) == ("", 0)
        assert not partial.exists()
        await swapper.load("b")
        assert (await x.turn(swapper, "two?")).kv.startswith("restored ")

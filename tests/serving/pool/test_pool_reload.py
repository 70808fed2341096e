"""Which tiers of the built-in pool get a new server when an edited configuration is applied."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.kv import configured, swapping
from support.waiting import wait_until_async

from llmstack.llama_cpp.tiny import write_echo
from llmstack.serving.memory.survey import survey

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.config.model import StackConfig
    from llmstack.serving.pool.backend import PoolBackend

pytestmark = pytest.mark.engine


@pytest.fixture
def models(tmp_path: Path) -> Path:
    directory = tmp_path / "models"
    directory.mkdir()
    for name in ("a", "b", "other"):
        write_echo(directory / f"{name}.gguf", speaker=name, context=4096)
    return directory


async def reload(swapper: PoolBackend, config: StackConfig) -> None:
    await swapper.reload(config, survey(config, dict(os.environ)))


async def test_a_tier_gets_a_new_server_if_its_file_was_deleted_and_replaced_by_another(
    models: Path, tmp_path: Path
) -> None:
    async with swapping(tmp_path, models, ctx=2048) as swapper:
        await swapper.load("a")
        (models / "a.gguf").unlink()
        config = configured(tmp_path, models, ctx=2048)
        moved = replace(config.tiers["a"], model=config.tiers["b"].model)
        await reload(swapper, replace(config, tiers={**config.tiers, "a": moved}))
        await wait_until_async(lambda: swapper.states()["a"].state == "idle")
        await swapper.load("a")


async def test_a_tier_gets_a_new_server_if_its_file_has_other_contents(models: Path, tmp_path: Path) -> None:
    config = configured(tmp_path, models, ctx=2048)
    async with swapping(tmp_path, models, ctx=2048) as swapper:
        await swapper.load("a")
        before = swapper.states()["a"].pid
        await reload(swapper, config)
        assert swapper.states()["a"].pid == before
        (models / "other.gguf").replace(models / "a.gguf")
        await reload(swapper, config)
        await wait_until_async(lambda: swapper.states()["a"].state == "idle")


async def test_a_tier_that_is_removed_and_added_with_other_settings_gets_a_new_server(
    models: Path, tmp_path: Path
) -> None:
    """A request waits for it all the time, so that its first server is not stopped."""
    config = configured(tmp_path, models, ctx=2048)
    without = replace(config, tiers={"b": config.tiers["b"]})
    larger = replace(config, tiers={**config.tiers, "a": replace(config.tiers["a"], ctx_size=4096)})
    async with swapping(tmp_path, models, ctx=2048, parallel=1) as swapper:
        lease = await swapper.acquire("a")
        before = swapper.states()["a"].pid
        waiting = asyncio.create_task(swapper.acquire("a"))
        await wait_until_async(lambda: swapper.states()["a"].waiting == 1)
        await reload(swapper, without)
        await reload(swapper, larger)
        async with lease:
            pass
        async with await waiting:
            assert swapper.states()["a"].pid != before

"""Reloads that are requested at the same time."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from router.harness import FakeSwapper, router
from support.gguf import gguf, llama
from support.hostile_gguf import no_shape
from support.native import native_server

from llmstack.config import load
from llmstack.paths import Project

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_later_reload_wins_although_an_earlier_one_reads_files_for_longer(tmp_path: Path) -> None:
    good, slow = tmp_path / "good.gguf", tmp_path / "slow.gguf"
    good.write_bytes(gguf(llama()))
    no_shape(slow)  # takes half a second
    project = Project.at(tmp_path, {})
    project.state.mkdir()
    text = f"[DEFAULT]\nmemory_gb = 1\nctx_size = 4k\n[good]\nrole = fast\npath = {good}\n"
    project.models_ini.write_text(text)
    async with router(FakeSwapper()) as running:
        service = running.app.service
        service.project, service.config = project, load(project.models_ini)
        service.env = {**os.environ, "LLAMA_SERVER_BIN": str(native_server(tmp_path))}
        project.models_ini.write_text(f"{text}[slow]\npath = {slow}\n")
        first = asyncio.create_task(service.reload())
        await asyncio.sleep(0)  # it has read models.ini, and reads the files now
        assert not first.done()
        assert list(service.config.tiers) == ["good"]  # nothing has changed before all is known
        project.models_ini.write_text(f"{text}[new]\npath = {good}\n")
        second = await service.reload()
        assert (await first)["changed"] == ["slow"]
        assert (sorted(second["changed"]), list(service.config.tiers)) == (["new", "slow"], ["good", "new"])
        assert set(service.survey.tiers) == {"good", "new"}

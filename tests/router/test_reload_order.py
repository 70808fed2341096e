"""Reloads that are requested at the same time."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

from router.harness import FakeSwapper, router
from support.gguf import gguf, llama
from support.hostile_gguf import no_shape
from support.native import native_server
from support.trusting import trust
from support.waiting import wait_until_async

from llmstack.config import parse_bytes
from llmstack.config.trusted import TrustedProject, open_trusted
from llmstack.paths import Project, UserDirs

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_a_later_reload_wins_although_an_earlier_one_reads_files_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, slow = tmp_path / "good.gguf", tmp_path / "slow.gguf"
    good.write_bytes(gguf(llama()))
    no_shape(slow)  # takes half a second
    project = Project.at(tmp_path, {})
    project.state.mkdir()
    text = f"[DEFAULT]\nmemory_gb = 1\nctx_size = 4k\n[good]\nrole = fast\npath = {good}\n"
    user = UserDirs(*[tmp_path / "user"] * 5)
    has_read = threading.Event()

    def write(text: str) -> None:
        project.models_ini.write_text(text)
        trust(project, user.trusted_projects)

    def open_and_tell(project: Project, user: UserDirs) -> TrustedProject:
        trusted = open_trusted(project, user)
        has_read.set()
        return trusted

    monkeypatch.setattr("llmstack.router.service.open_trusted", open_and_tell)
    write(text)
    async with router(FakeSwapper()) as running:
        service = running.app.service
        service.project, service.user = project, user
        service.config = parse_bytes(text.encode(), project.models_ini)
        service.env = {**os.environ, "LLAMA_SERVER_BIN": str(native_server(tmp_path))}
        write(f"{text}[slow]\npath = {slow}\n")
        first = asyncio.create_task(service.reload())
        await wait_until_async(has_read.is_set)  # it reads the model files now
        assert not first.done()
        assert list(service.config.tiers) == ["good"]  # nothing has changed before all is known
        write(f"{text}[new]\npath = {good}\n")
        second = await service.reload()
        assert (await first)["changed"] == ["slow"]
        assert (sorted(second["changed"]), list(service.config.tiers)) == (["new", "slow"], ["good", "new"])
        assert set(service.survey.tiers) == {"good", "new"}

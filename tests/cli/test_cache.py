"""`llmstack cache`: list and clear saved prompt caches."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from support.project import CliProject

from llmstack.paths import UserDirs
from llmstack.serving.kv.files import PromptCacheFiles

if TYPE_CHECKING:
    from pathlib import Path

MB = 1024**2


@pytest.fixture
def here(tmp_path: Path) -> CliProject:
    return CliProject(tmp_path)


def save(files: PromptCacheFiles, session: str, megabytes: int, used: float) -> Path:
    """Write a cache file of this size, last used at this time."""
    files.prepare_directory("model")
    path = files.path_for("model", session)
    files.part_path(path).write_bytes(bytes(megabytes * MB))
    files.commit(path, tier="plan", model="q.gguf", tokens=megabytes * 1000)
    os.utime(path, (used, used))
    return path


def test_saved_prompts_are_listed_and_cleared(here: CliProject) -> None:
    files = PromptCacheFiles(UserDirs.from_env({}).prompt_caches, 10**9)
    assert here.run("cache").check().err.startswith("0 conversations, 0 MB of ")
    assert here.run("cache", "clear").check().err == "nothing was saved\n"
    old, new = save(files, "old", 1, 1000.0), save(files, "new", 3, 4_000_000_000.0)
    shown = here.run("cache").check()
    assert [line.split()[:5] for line in shown.out.splitlines()] == [
        ["tier", "model", "tokens", "size", "used"],
        ["plan", "q.gguf", "3000", "3", "MB"],
        ["plan", "q.gguf", "1000", "1", "MB"],
    ]
    assert shown.err.startswith("2 conversations, 4 MB of ")
    listed = json.loads(here.run("cache", "list", "--json").check().out)
    assert listed["directory"] == str(files.root)
    assert listed["total_bytes"] == files.total_bytes()
    assert [(saved["path"], saved["tokens"]) for saved in listed["saved"]] == [
        (str(new), 3000),
        (str(old), 1000),
    ]
    assert here.run("cache", "clear").check().err == "freed 4 MB\n"
    assert json.loads(here.run("cache", "--json").check().out)["saved"] == []
    assert json.loads(here.run("cache", "clear", "--json").check().out) == {"freed_bytes": 0}

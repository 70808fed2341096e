from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.stack_access import stack_access

from llmstack.clients.base import find_executable
from llmstack.clients.opencode import Opencode, find_repository_plugins, reject_repository_plugins
from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("opencode.json", '{"plugin": ["./evil.ts"]}'),
        ("opencode.jsonc", '{"plugins": ["evil"], /* so */}'),
        ("opencode.json", '{"\\u0070lugin": ["evil"]}'),
        (".opencode/opencode.json", '{"plugin": ["evil"]}'),
        (".opencode/plugin/a.ts", ""),
        (".opencode/plugins/.hidden.js", ""),
    ],
)
@pytest.mark.parametrize("subdirectory", [".", "deep/down"])
def test_plugins_of_a_repository_are_found_and_rejected(
    tmp_path: Path, path: str, text: str, subdirectory: str
) -> None:
    directory = tmp_path / "repo" / subdirectory
    directory.mkdir(parents=True)
    planted = tmp_path / "repo" / path
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(text)
    assert find_repository_plugins(directory, tmp_path) == [planted]
    with pytest.raises(LlmstackError) as raised:
        reject_repository_plugins(directory, tmp_path)
    assert str(planted) in raised.value.message


def test_files_that_run_no_code_are_accepted(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / ".opencode" / "agents").mkdir(parents=True)
    (repo / ".opencode" / "agents" / "a.md").write_text("text")
    (repo / "opencode.json").write_text('{"model": "a/b"}')
    reject_repository_plugins(repo, tmp_path)


def test_plugins_in_the_home_directory_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "opencode.json").write_text('{"plugin": ["mine"]}')
    (tmp_path / "repo").mkdir()
    reject_repository_plugins(tmp_path / "repo", tmp_path)
    reject_repository_plugins(tmp_path, tmp_path)


def test_the_environment_selects_this_stack_and_keeps_the_other_variables(tmp_path: Path) -> None:
    env = {
        "PATH": "/usr/bin",
        "OPENCODE_CONFIG": "/elsewhere",
        "OPENCODE_CONFIG_CONTENT": "{}",
        "OPENCODE_DISABLE_PROJECT_CONFIG": "0",
        "OPENCODE_CONFIG_DIR": ".opencode",
        "OPENCODE_TUI_CONFIG": str(tmp_path / "tui.json"),
        "NO_PROXY": "corp.example, localhost",
    }
    hosts = "corp.example,localhost,127.0.0.1,::1"
    assert Opencode().launch(stack_access(env, tmp_path, "http://127.0.0.1:9"), tmp_path).env == {
        "PATH": "/usr/bin",
        "OPENCODE_CONFIG": "/state/opencode.json",
        "OPENCODE_CONFIG_CONTENT": "{ }",
        "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_TUI_CONFIG": str(tmp_path / "tui.json"),
        "NO_PROXY": hosts,
        "no_proxy": hosts,
    }


@pytest.mark.skipif(os.name == "nt", reason="executables are found by extension there")
def test_find_executable_ignores_relative_path_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bin", "repo"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "opencode").write_text("#!/bin/sh\n")
        (tmp_path / name / "opencode").chmod(0o755)
    monkeypatch.chdir(tmp_path / "repo")
    assert find_executable(Opencode(), {"PATH": f".:{tmp_path / 'bin'}"}) == tmp_path / "bin" / "opencode"
    for env in ({"PATH": "."}, {}):
        with pytest.raises(LlmstackError) as raised:
            find_executable(Opencode(), env)
        assert raised.value.hint == "install it: npm install -g opencode-ai"

"""The process that acts on a file verifies the bytes that it parses: at start, at reload, for LiteLLM."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
from support.project import CliProject
from support.stranger import needs_root, run_as_stranger

from llmstack.config.trusted import open_trusted
from llmstack.errors import LlmstackError
from llmstack.paths import Project, UserDirs
from llmstack.serving.litellm.program import copy_litellm_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POST = """
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("POST", sys.argv[2])
response = connection.getresponse()
print(response.status, response.read().decode())
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[CliProject]:
    project = CliProject(tmp_path / "project")
    project.directory.mkdir()
    yield project
    project.close()


def add_program(project: CliProject, file: Path) -> None:
    """Append a tier that would run a program."""
    ini = project.state / "models.ini"
    ini.write_text(
        f"{ini.read_text()}[evil]\nbackend = mcp\ncommand = touch {file}\ntool = t\nctx_size = 8k\n"
    )


def owner_token(project: CliProject) -> dict[str, str]:
    return {"authorization": f"Bearer {project.private.router_token.read_text().strip()}"}


@pytest.mark.engine
def test_a_router_applies_no_edit_that_is_not_trusted(project: CliProject, tmp_path: Path) -> None:
    project.install(tiers=("code-fast",))
    project.start("--detach")
    add_program(project, tmp_path / "it-ran")
    response = httpx.post(f"{project.url}/llmstack/reload", headers=owner_token(project), timeout=20)
    assert response.status_code == 409
    assert "changed since this project was trusted: models.ini" in response.json()["error"]["message"]
    assert "evil" not in httpx.get(f"{project.url}/models.ini").text
    assert project.ask("hello", "evil").status_code == 404
    assert not (tmp_path / "it-ran").exists()


@needs_root
@pytest.mark.engine
def test_another_user_changes_nothing(project: CliProject) -> None:
    project.install(tiers=("code-fast",))
    project.start()
    for path in ("reload", "unload", "unload/code-fast", "load/code-fast"):
        answer = run_as_stranger(POST, str(project.port), f"/llmstack/{path}")
        assert answer.startswith("403 ")
        assert "only the owner of this stack may change it" in answer
    assert project.status()["tiers"][0]["state"] == "resident"
    assert project.private.directory.stat().st_mode & 0o777 == 0o700
    assert project.private.router_token.stat().st_mode & 0o777 == 0o600
    project.run("unload").check()  # the owner may
    assert project.status()["tiers"][0]["state"] == "idle"


@pytest.mark.engine
def test_a_clients_key_also_allows_changes(project: CliProject) -> None:
    project.env["LLMSTACK_API_KEY"] = "client-key"
    project.install(tiers=("code-fast",))
    project.start("--detach")
    url = f"{project.url}/llmstack/unload"
    assert httpx.post(url).status_code == 401
    assert httpx.post(url, headers={"x-api-key": "client-key"}, timeout=20).status_code == 200
    project.run("status", "--json").check()  # with the token alone


def test_a_router_does_not_start_on_files_that_changed_after_the_check(
    project: CliProject, tmp_path: Path
) -> None:
    project.install(tiers=("code-fast",))
    add_program(project, tmp_path / "it-ran")
    argv = [sys.executable, "-P", "-m", "llmstack.router", "--work-dir", str(project.directory)]
    router = subprocess.run(argv, env=project.env, capture_output=True, text=True, timeout=60, check=False)
    assert router.returncode
    assert "changed since this project was trusted: models.ini" in router.stderr
    assert not project.private.router_token.exists()


def test_what_is_parsed_is_what_was_verified(project: CliProject) -> None:
    """The file is exchanged between the check and its use."""
    project.install(tiers=("code-fast",))
    user = UserDirs.from_env(project.env)
    trusted = open_trusted(Project.at(project.directory, {}), user)
    (project.state / "models.ini").write_text("[evil]\nbackend = mcp\ncommand = x\ntool = t\nctx_size = 8k\n")
    assert trusted.declared is not None
    assert [*trusted.declared.tiers] == ["code-fast"]
    with pytest.raises(LlmstackError, match="was edited meanwhile"):
        trusted.write({trusted.project.models_ini: "x"})


def test_writing_one_file_trusts_no_other(project: CliProject) -> None:
    project.install(tiers=("code-fast",))
    user = UserDirs.from_env(project.env)
    trusted = open_trusted(Project.at(project.directory, {}), user)
    (project.state / "evil.py").write_text("x = 1\n")
    trusted.write({trusted.project.opencode_json: "{}"})
    with pytest.raises(LlmstackError, match=r"changed since this project was trusted: evil\.py"):
        open_trusted(trusted.project, user)


def test_litellm_gets_the_verified_files_and_no_others(project: CliProject) -> None:
    project.install(tiers=("code-fast",))
    (project.state / "litellm_config.yaml").write_text("model_list: []\n")
    (project.state / "deep").mkdir()
    (project.state / "deep" / "hook.py").write_text("a = 1\n")
    project.run("trust", "--yes").check()
    trusted = open_trusted(Project.at(project.directory, {}), UserDirs.from_env(project.env))
    (project.state / "deep" / "hook.py").write_text("evil = 1\n")
    (project.state / "later.py").write_text("evil = 1\n")
    copies = trusted.private.litellm_dir
    copies.mkdir(parents=True)
    (copies / "old.py").write_text("old = 1\n")
    copy_litellm_files(trusted)
    files = {path.relative_to(copies).as_posix(): path.read_text() for path in copies.rglob("*.*")}
    assert files == {"litellm_config.yaml": "model_list: []\n", "deep/hook.py": "a = 1\n"}
    if os.name == "posix":
        assert trusted.private.directory.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in copies.rglob("*.*")} == {0o600}

"""No secret is in a project: what a clone brings is never used as one, and none is written there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.project import CliProject

from llmstack.errors import LlmstackError
from llmstack.serving.litellm.program import master_key
from llmstack.trust.store import SECRET_FILES

if TYPE_CHECKING:
    from pathlib import Path

PLANTED = "sk-known-to-the-author-of-the-clone"


@pytest.mark.parametrize("name", SECRET_FILES)
def test_a_clone_that_brings_a_secret_is_refused(tmp_path: Path, name: str) -> None:
    project = CliProject(tmp_path / "clone")
    project.write(tiers=("code-fast",))
    (project.state / name).write_text(PLANTED)
    for command in ("install --trust", "trust --yes", "status", "start"):
        result = project.run(*command.split())
        assert result.code == 1
        assert f"{project.state / name} would hold a secret, which is never in a project" in result.err


@pytest.mark.engine
def test_every_secret_of_a_running_stack_is_outside_the_project(tmp_path: Path) -> None:
    project = CliProject(tmp_path / "project")
    project.env["LLMSTACK_API_KEY"] = "key-of-the-user-7f3a"
    project.install(tiers=("code-fast",))
    try:
        project.start("--detach")
        token = project.private.router_token.read_text().strip()
        secrets = [token.encode(), b"key-of-the-user-7f3a"]
        if project.private.llama_swap_yaml.exists():
            secrets.append(project.private.llama_swap_yaml.read_bytes().partition(b"apiKeys")[2][:60])
        for path in project.state.rglob("*"):
            if path.is_file():
                assert not any(secret in path.read_bytes() for secret in secrets), path
        assert project.private.router_token.stat().st_mode & 0o777 == 0o600
    finally:
        project.close()


def test_a_master_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "litellm.key"
    key = master_key(path)
    assert master_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"\xff")
    with pytest.raises(LlmstackError):
        master_key(path)

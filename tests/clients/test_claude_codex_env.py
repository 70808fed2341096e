"""The arguments and environment that Claude Code and Codex are started with."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.stack_access import stack_access

from llmstack.clients.base import find_executable
from llmstack.clients.claude import Claude
from llmstack.clients.codex import Codex
from llmstack.errors import LlmstackError

URL = "http://127.0.0.1:9"
HOSTS = {"NO_PROXY": "localhost,127.0.0.1,::1", "no_proxy": "localhost,127.0.0.1,::1"}


def settings_of(arguments: tuple[str, ...]) -> Any:
    return json.loads(Path(arguments[arguments.index("--settings") + 1]).read_text())


def options_of(arguments: tuple[str, ...]) -> dict[str, Any]:
    assert set(arguments[::2]) == {"-c"}
    return tomllib.loads("\n".join(arguments[1::2]))


def test_claude_settings_are_in_a_file_that_only_the_user_can_read(tmp_path: Path) -> None:
    env = {
        "PATH": "/bin",
        "ANTHROPIC_API_KEY": "mine",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "CLAUDE_CONFIG_DIR": "x",
    }
    launch = Claude().launch(stack_access(env, tmp_path, URL, key="secret"), tmp_path)
    settings = tmp_path / "claude-settings.json"
    assert launch.arguments == ("--settings", str(settings), "--setting-sources", "user")
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    document = settings_of(launch.arguments)
    assert document["model"] == "auto"
    variables = document["env"]
    assert (variables["ANTHROPIC_BASE_URL"], variables["ANTHROPIC_AUTH_TOKEN"]) == (URL, "secret")
    assert (variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"], variables["CLAUDE_CODE_MAX_OUTPUT_TOKENS"]) == (
        "65536",
        "4096",
    )
    assert variables["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "code-fast"
    # variables that the user's settings may set and that must have no effect: empty there, absent here
    assert variables["CLAUDE_CODE_USE_BEDROCK"] == variables["ANTHROPIC_API_KEY"] == ""
    assert launch.env == {
        "PATH": "/bin",
        **HOSTS,
        **{name: value for name, value in variables.items() if value},
    }


def test_claude_still_reads_the_claude_md_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "CLAUDE.md").write_text("rules")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    arguments = Claude().launch(stack_access({}, tmp_path, URL), scratch).arguments
    assert arguments[-2:] == ("--append-system-prompt-file", str(tmp_path / "CLAUDE.md"))


def test_a_trusted_repository_gets_no_restrictions(tmp_path: Path) -> None:
    access = stack_access({"HOME": "/home/x"}, tmp_path, URL, trusts_repository=True)
    assert "--setting-sources" not in Claude().launch(access, tmp_path).arguments
    assert "projects" not in options_of(Codex().launch(access, tmp_path).arguments)


def test_codex_configuration_is_passed_as_arguments(tmp_path: Path) -> None:
    repo = tmp_path / 'odd "name" é'
    repo.mkdir()
    env = {"HOME": str(tmp_path), "CODEX_HOME": ".codex", "LLMSTACK_API_KEY": "secret"}
    launch = Codex().launch(stack_access(env, repo, URL, key="secret"), tmp_path)
    options = options_of(launch.arguments)
    assert options["model_providers"] == {
        "llmstack": {
            "name": "llmstack",
            "base_url": f"{URL}/v1",
            "wire_api": "responses",
            "stream_idle_timeout_ms": 900_000,
            "env_key": "LLMSTACK_API_KEY",
        }
    }
    assert (options["model"], options["model_provider"]) == ("auto", "llmstack")
    assert options["model_context_window"] == 65_536
    assert options["projects"] == {str(repo.resolve()): {"trust_level": "untrusted"}}
    assert launch.env == {"HOME": str(tmp_path), "LLMSTACK_API_KEY": "secret", **HOSTS}
    assert not any("secret" in argument for argument in launch.arguments)


def test_codex_sends_no_key_if_the_router_requires_none(tmp_path: Path) -> None:
    options = options_of(Codex().launch(stack_access({}, tmp_path, URL), tmp_path).arguments)
    assert "env_key" not in options["model_providers"]["llmstack"]


@pytest.mark.parametrize("client", [Claude(), Codex()])
def test_a_client_that_is_not_installed_names_the_install_command(client: Claude | Codex) -> None:
    with pytest.raises(LlmstackError) as raised:
        find_executable(client, {"PATH": "."})
    assert raised.value.hint == f"install it: npm install -g {client.package}"

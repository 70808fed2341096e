"""What Claude Code and Codex are started with."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.wiring import wiring

from llmstack.clients.base import find
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


def test_claude_gets_its_settings_in_a_file_for_the_user_alone(tmp_path: Path) -> None:
    env = {
        "PATH": "/bin",
        "ANTHROPIC_API_KEY": "mine",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "CLAUDE_CONFIG_DIR": "x",
    }
    launch = Claude().launch(wiring(env, tmp_path, URL, key="secret"), tmp_path)
    settings = tmp_path / "claude-settings.json"
    assert launch.arguments == ("--settings", str(settings), "--setting-sources", "user")
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    document = settings_of(launch.arguments)
    assert document["model"] == "auto"
    own = document["env"]
    assert (own["ANTHROPIC_BASE_URL"], own["ANTHROPIC_AUTH_TOKEN"]) == (URL, "secret")
    assert (own["CLAUDE_CODE_MAX_CONTEXT_TOKENS"], own["CLAUDE_CODE_MAX_OUTPUT_TOKENS"]) == ("65536", "4096")
    assert own["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "code-fast"
    # what the user's settings may hold, and must not count, is emptied there and left out here
    assert own["CLAUDE_CODE_USE_BEDROCK"] == own["ANTHROPIC_API_KEY"] == ""
    assert launch.env == {"PATH": "/bin", **HOSTS, **{name: value for name, value in own.items() if value}}


def test_claude_reads_the_rules_of_the_repository_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "CLAUDE.md").write_text("rules")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    arguments = Claude().launch(wiring({}, tmp_path, URL), scratch).arguments
    assert arguments[-2:] == ("--append-system-prompt-file", str(tmp_path / "CLAUDE.md"))


def test_a_trusted_repository_is_left_to_the_client(tmp_path: Path) -> None:
    told = wiring({"HOME": "/home/x"}, tmp_path, URL, trusting=True)
    assert "--setting-sources" not in Claude().launch(told, tmp_path).arguments
    assert "projects" not in options_of(Codex().launch(told, tmp_path).arguments)


def test_codex_gets_its_configuration_as_arguments(tmp_path: Path) -> None:
    repo = tmp_path / 'odd "name" é'
    repo.mkdir()
    env = {"HOME": str(tmp_path), "CODEX_HOME": ".codex", "LLMSTACK_API_KEY": "secret"}
    launch = Codex().launch(wiring(env, repo, URL, key="secret"), tmp_path)
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
    assert not any("secret" in word for word in launch.arguments)


def test_codex_sends_no_key_where_none_is_asked_for(tmp_path: Path) -> None:
    options = options_of(Codex().launch(wiring({}, tmp_path, URL), tmp_path).arguments)
    assert "env_key" not in options["model_providers"]["llmstack"]


@pytest.mark.parametrize("client", [Claude(), Codex()])
def test_what_is_not_installed(client: Claude | Codex) -> None:
    with pytest.raises(LlmstackError) as raised:
        find(client, {"PATH": "."})
    assert raised.value.hint == f"install it: npm install -g {client.package}"

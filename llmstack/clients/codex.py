"""Codex under `llmstack run`: uses this stack, whatever the repository it works in configures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.clients.base import Launch, no_proxy_variables, without_relative_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmstack.clients.base import StackAccess

PROVIDER = "llmstack"
_IDLE_MS = 900_000  # a long load or prefill; the router sends something at least this often
# Requests to OpenAI's own servers, and tools of types that llama.cpp does not support (`namespace`,
# `web_search`).
_DISABLED_FEATURES = {
    "web_search": "disabled",
    "check_for_update_on_startup": False,
    "analytics.enabled": False,
    "feedback.enabled": False,
    "features.multi_agent": False,
    "features.goals": False,
    "features.plugins": False,
    "features.apps": False,
    "features.skill_mcp_dependency_install": False,
}


class Codex:
    """Codex.

    Measured with 0.169: `-c` overrides every file. Codex always ignores providers, base URLs and `notify` in
    a repository's `.codex/config.toml`. It uses the rest, MCP servers and hooks included, only if the user
    trusts the directory, so this run marks the directory as untrusted.
    """

    name = "codex"
    package = "@openai/codex"

    def check_repository(self, cwd: Path, home: Path) -> None:
        """Do nothing: options disable everything that a repository brings."""

    def launch(self, access: StackAccess, scratch: Path) -> Launch:  # noqa: ARG002 - the protocol's signature; no file is needed
        """Return how to start it, its configuration as arguments and the key in its environment variable."""
        provider: dict[str, object] = {
            "name": PROVIDER,
            "base_url": f"{access.url}/v1",
            "wire_api": "responses",
            "stream_idle_timeout_ms": _IDLE_MS,
        }
        if access.key is not None:
            provider["env_key"] = access.key_env
        options: dict[str, object] = {
            "model": "auto",
            "model_provider": PROVIDER,
            f"model_providers.{PROVIDER}": provider,
            "model_context_window": access.context,
            **_DISABLED_FEATURES,
        }
        if not access.trusts_repository:
            options["projects"] = {
                str(path): {"trust_level": "untrusted"} for path in _trust_directories(access)
            }
        arguments = [arg for name, value in options.items() for arg in ("-c", f"{name}={_toml(value)}")]
        env = without_relative_paths(access.env, "CODEX_HOME") | no_proxy_variables(access.env)
        return Launch(tuple(arguments), env if access.key is None else env | {access.key_env: access.key})


def _trust_directories(access: StackAccess) -> Iterator[Path]:
    """Yield the directories whose trust Codex looks up: the current one and its parents below the home."""
    cwd, home = access.cwd.resolve(), Path(access.env.get("HOME") or Path.home()).resolve()
    for directory in (cwd, *cwd.parents):
        if directory in (home, *home.parents):
            break
        yield directory


def _toml(value: object) -> str:
    """Return a value as TOML; JSON strings are valid TOML strings, and quoted keys are valid keys."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)

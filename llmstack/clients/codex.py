"""Codex under `run`: pinned to this stack, whatever the repository it works in says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.clients.base import Launch, without_proxy, without_relative

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmstack.clients.base import Wiring

PROVIDER = "llmstack"
_IDLE_MS = 900_000  # a long load or prefill; the router says something at least this often
# What asks OpenAI's own servers, and tools of a kind that llama.cpp leaves out (`namespace`, `web_search`).
_SWITCHED_OFF = {
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

    Measured with 0.169: `-c` wins over every file. It ignores providers, base URLs and `notify` in a
    repository's `.codex/config.toml`, and all of that file until the user trusts the directory; of one that
    is trusted it starts MCP servers and hooks. For this run it is told that the directory is not trusted.
    """

    name = "codex"
    package = "@openai/codex"

    def refuse(self, cwd: Path, home: Path) -> None:
        """Refuse nothing: all that a repository brings can be switched off."""

    def launch(self, wiring: Wiring, scratch: Path) -> Launch:  # noqa: ARG002 - of the Protocol: no file is needed
        """Return it with its configuration as arguments; the key stays in its variable."""
        provider: dict[str, object] = {
            "name": PROVIDER,
            "base_url": f"{wiring.url}/v1",
            "wire_api": "responses",
            "stream_idle_timeout_ms": _IDLE_MS,
        }
        if wiring.key is not None:
            provider["env_key"] = wiring.key_env
        options: dict[str, object] = {
            "model": "auto",
            "model_provider": PROVIDER,
            f"model_providers.{PROVIDER}": provider,
            "model_context_window": wiring.context,
            **_SWITCHED_OFF,
        }
        if not wiring.trusting:
            options["projects"] = {str(place): {"trust_level": "untrusted"} for place in _places(wiring)}
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={_toml(value)}")]
        env = without_relative(wiring.env, "CODEX_HOME") | without_proxy(wiring.env)
        return Launch(tuple(arguments), env if wiring.key is None else env | {wiring.key_env: wiring.key})


def _places(wiring: Wiring) -> Iterator[Path]:
    """Where it looks for a directory's trust: here and above, up to the user's own."""
    here, home = wiring.cwd.resolve(), Path(wiring.env.get("HOME") or Path.home()).resolve()
    for place in (here, *here.parents):
        if place in (home, *home.parents):
            break
        yield place


def _toml(value: object) -> str:
    """Return a value as TOML says it; strings as JSON are TOML too, keys in quotes as well."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)

"""Claude Code under `run`: pinned to this stack, whatever the repository it works in says."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from llmstack.clients.base import Launch, without_proxy, without_relative

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.clients.base import Wiring

_TIMEOUT_MS = 1_800_000  # a long load or prefill; the router says something at least this often
# Ways to another provider, and keys that are none of the router's business.
_ELSEWHERE = (
    *("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"),
    *("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"),
)


class Claude:
    """Claude Code.

    Measured with 2.1.197: `claude -p` runs the hooks, the `apiKeyHelper` and the MCP servers of a repository
    without a question. `--setting-sources user` closes that, its skills, commands and agents included, and
    also its CLAUDE.md, which is added again. Settings of the command line win over the user's own, whose
    `env` wins over the environment.
    """

    name = "claude"
    package = "@anthropic-ai/claude-code"

    def refuse(self, cwd: Path, home: Path) -> None:
        """Refuse nothing: all that a repository brings can be switched off."""

    def launch(self, wiring: Wiring, scratch: Path) -> Launch:
        """Return it with settings of its own, in a file: they may hold the router's key."""
        own = _env(wiring)
        settings = scratch / "claude-settings.json"
        document = {"model": "auto", "env": {**dict.fromkeys(_ELSEWHERE, ""), **own}}
        # Made anew with its mode, so that nobody reads it in between.
        with os.fdopen(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(document, file)
        arguments = ["--settings", str(settings)]
        if not wiring.trusting:
            arguments += ["--setting-sources", "user"]
            rules = wiring.work_dir / "CLAUDE.md"
            if rules.is_file():
                arguments += ["--append-system-prompt-file", str(rules)]
        inherited = without_relative(wiring.env, "CLAUDE_CONFIG_DIR")
        kept = {name: value for name, value in inherited.items() if name not in _ELSEWHERE}
        return Launch(tuple(arguments), kept | own | without_proxy(wiring.env))


def _env(wiring: Wiring) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": wiring.url,
        "ANTHROPIC_AUTH_TOKEN": wiring.key or "local",  # without any it would ask for a log-in
        "ANTHROPIC_MODEL": "auto",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": wiring.ultra,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": wiring.agent,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": wiring.fast,
        # It would assume up to a million, and ask for answers of 32 000 tokens.
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(wiring.context),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(wiring.output),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",  # a stamp in the system prompt, against every prompt cache
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
        "API_TIMEOUT_MS": str(_TIMEOUT_MS),
    }

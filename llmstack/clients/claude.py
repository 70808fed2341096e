"""Claude Code under `llmstack run`: uses this stack, whatever the repository it works in configures."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from llmstack.clients.base import Launch, no_proxy_variables, without_relative_paths

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.clients.base import StackAccess

_TIMEOUT_MS = 1_800_000  # a long load or prefill; the router sends something at least this often
# Variables that select another provider, and keys that must not reach the router.
_OTHER_PROVIDER_VARIABLES = (
    *("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"),
    *("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"),
)


class Claude:
    """Claude Code.

    Measured with 2.1.197: `claude -p` runs the hooks, the `apiKeyHelper` and the MCP servers of a repository
    without asking. `--setting-sources user` disables all of them, and the repository's skills, commands,
    agents and CLAUDE.md; CLAUDE.md is then added with an option of its own. `--settings` overrides the user's
    settings, and the `env` of any settings overrides the environment.
    """

    name = "claude"
    package = "@anthropic-ai/claude-code"

    def check_repository(self, cwd: Path, home: Path) -> None:
        """Do nothing: options disable everything that a repository brings."""

    def launch(self, access: StackAccess, scratch: Path) -> Launch:
        """Return how to start it, its settings in a file because they may hold the router's key."""
        variables = _env(access)
        settings = scratch / "claude-settings.json"
        document = {"model": "auto", "env": {**dict.fromkeys(_OTHER_PROVIDER_VARIABLES, ""), **variables}}
        # Created with its mode, so that nobody can read it before a chmod.
        with os.fdopen(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(document, file)
        arguments = ["--settings", str(settings)]
        if not access.trusts_repository:
            arguments += ["--setting-sources", "user"]
            claude_md = access.work_dir / "CLAUDE.md"
            if claude_md.is_file():
                arguments += ["--append-system-prompt-file", str(claude_md)]
        env = without_relative_paths(access.env, "CLAUDE_CONFIG_DIR")
        env = {name: value for name, value in env.items() if name not in _OTHER_PROVIDER_VARIABLES}
        return Launch(tuple(arguments), env | variables | no_proxy_variables(access.env))


def _env(access: StackAccess) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": access.url,
        "ANTHROPIC_AUTH_TOKEN": access.key or "local",  # if it is empty, Claude Code asks the user to log in
        "ANTHROPIC_MODEL": "auto",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": access.ultra,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": access.agent,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": access.fast,
        # Otherwise it assumes up to a million tokens, and requests answers of 32 000.
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(access.context),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(access.output),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",  # would change the system prompt and miss every cache
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
        "API_TIMEOUT_MS": str(_TIMEOUT_MS),
    }

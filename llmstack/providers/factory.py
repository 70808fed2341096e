"""Open a model by its name. Reads the process environment and the user's models.toml."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from llmstack.providers.catalog import MCP_PROVIDERS, MCP_SUFFIX
from llmstack.providers.http import HttpSource
from llmstack.providers.mcp.source import McpSource
from llmstack.providers.model_aliases import load_aliases
from llmstack.providers.model_api import Model
from llmstack.providers.resolve import resolve, split_name
from llmstack.providers.retries import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path


def open_model(
    name: str,
    *,
    base_url: str | None,
    timeout_s: float,
    retries: int | RetryPolicy,
    strict: bool,
    env: Mapping[str, str] | None,
    config_dir: Path | None,
    own_addresses: Collection[str],
    command: Sequence[str] | None,
) -> Model:
    """Return the model with a name. See `llmstack.providers.model` for the parameters."""
    env = dict(os.environ) if env is None else env
    prefix, model_name = split_name(name)
    aliases = load_aliases(config_dir or _user_config_dir(env))
    if prefix in MCP_PROVIDERS:
        provider = prefix.removesuffix(MCP_SUFFIX)
        model = aliases.full_name(provider, model_name) if model_name else aliases.default_model(provider)
        source = McpSource(
            tuple(command or (sys.executable, "-m", "llmstack", "mcp")),
            f"provider_{provider}",
            env=env,
            provider=prefix,
            model=model or "",
            timeout_s=timeout_s,
        )
        return Model(source)
    endpoint = resolve(name, env, aliases, base_url=base_url, own_addresses=own_addresses)
    policy = retries if isinstance(retries, RetryPolicy) else RetryPolicy(retries)
    return Model(HttpSource(endpoint, timeout_s=timeout_s, retries=policy, strict=strict))


def _user_config_dir(env: Mapping[str, str]) -> Path:
    """Return the directory of the user's own models.toml."""
    from llmstack.paths import UserDirs  # noqa: PLC0415 - not needed if the caller passes a directory

    return UserDirs.from_env(env).config

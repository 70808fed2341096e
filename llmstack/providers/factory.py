"""From a model's name to a model: the entry point of the Python interface, where the environment is read."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from llmstack.providers.catalog import MCP_FORMS, MCP_SUFFIX
from llmstack.providers.http import HttpSource
from llmstack.providers.mcp.source import McpSource
from llmstack.providers.model_aliases import load
from llmstack.providers.model_api import Model
from llmstack.providers.resolve import resolve, split_name
from llmstack.providers.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path


def open_model(
    name: str,
    *,
    base_url: str | None,
    timeout_s: float,
    retries: int | Retries,
    strict: bool,
    env: Mapping[str, str] | None,
    config_dir: Path | None,
    own: Collection[str],
    command: Sequence[str] | None,
) -> Model:
    """Return the model of a name; parameters as those of `llmstack.providers.model`."""
    env = dict(os.environ) if env is None else env
    prefix, rest = split_name(name)
    known = load(config_dir or user_config_dir(env))
    if prefix in MCP_FORMS:
        provider = prefix.removesuffix(MCP_SUFFIX)
        model = known.full_name(provider, rest) if rest else known.default(provider) or ""
        source = McpSource(
            tuple(command or (sys.executable, "-m", "llmstack", "mcp")),
            f"provider_{provider}",
            env=env,
            provider=prefix,
            model=model,
            timeout_s=timeout_s,
        )
        return Model(source)
    endpoint = resolve(name, env, known, base_url=base_url, own=own)
    tries = retries if isinstance(retries, Retries) else Retries(retries)
    return Model(HttpSource(endpoint, timeout_s=timeout_s, retries=tries, strict=strict))


def user_config_dir(env: Mapping[str, str]) -> Path:
    """Return the directory of the user's own `models.toml`."""
    from llmstack.paths import UserDirs  # noqa: PLC0415 - not where a directory was given

    return UserDirs.from_env(env).config

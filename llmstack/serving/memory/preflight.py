"""Why a tier cannot start, as far as can be told without opening a file: `status` waits for it."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.config.model import BackendKind, HostedModel, McpModel
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.binary import find_engine
from llmstack.llama_cpp.weights import find_weights
from llmstack.serving.litellm.program import INSTALL, find_litellm, missing_keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.config.model import GgufModel, StackConfig, Tier
    from llmstack.llama_cpp.binary import EngineBinary


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a tier cannot start, and how to fix it."""

    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.hint})"


def find_obstacles(config: StackConfig, env: Mapping[str, str]) -> dict[str, str]:
    """Return the tiers that cannot start, with reason and remedy, without opening any file."""
    _, no_engine = find_engine_or_obstacle(env)
    obstacles = {
        name: find_weights_or_obstacle(tier, env, no_engine)[1] for name, tier in config.tiers.items()
    }
    return {name: str(obstacle) for name, obstacle in obstacles.items() if obstacle is not None}


def find_engine_or_obstacle(env: Mapping[str, str]) -> tuple[EngineBinary | None, Obstacle | None]:
    """Return the engine, or why there is none."""
    try:
        return find_engine(env), None
    except LlmstackError as error:
        return None, Obstacle(error.message, error.hint or "")


def find_weights_or_obstacle(
    tier: Tier, env: Mapping[str, str], no_engine: Obstacle | None
) -> tuple[Path | None, Obstacle | None]:
    """Return the file to load, and why the tier cannot start."""
    if tier.backend is BackendKind.LITELLM and isinstance(tier.model, HostedModel):
        return None, _litellm_obstacle(tier.model, env)
    if isinstance(tier.model, HostedModel):
        return None, _server_obstacle(tier.model, env)
    if isinstance(tier.model, McpModel):
        return None, _mcp_obstacle(tier.model, env)
    weights = find_weights(tier.model, env)
    return weights, no_engine if weights is not None else Obstacle(*_missing_file(tier.name, tier.model))


def _litellm_obstacle(model: HostedModel, env: Mapping[str, str]) -> Obstacle | None:
    """Return why LiteLLM cannot serve a model."""
    try:
        if find_litellm(env) is None:
            return Obstacle("LiteLLM is not installed", INSTALL)
    except LlmstackError as error:
        return Obstacle(error.message, error.hint or "")
    if model.base_url is not None:
        return None  # a server of the user's own, which may need no key
    absent = missing_keys(model, env)
    if not absent:
        return None
    variables = " and ".join(f"${name}" for name in absent)
    verb = "is" if len(absent) == 1 else "are"
    hint = f"export {absent[0]}=… and `llmstack restart`"
    return Obstacle(f"{variables} {verb} not set, which {model.provider} requires", hint)


def _server_obstacle(model: HostedModel, env: Mapping[str, str]) -> Obstacle | None:
    """Return why a server cannot be asked; whether it answers shows only when it is asked."""
    from llmstack.providers.errors import ProviderError  # noqa: PLC0415 - most stacks have no such tier
    from llmstack.providers.model_aliases import ModelAliases  # noqa: PLC0415
    from llmstack.providers.resolve import resolve  # noqa: PLC0415

    try:
        resolve(model.label, env, ModelAliases(), base_url=model.base_url)
    except ProviderError as error:
        return Obstacle(error.message, error.hint or "correct `model` in models.ini")
    return None


def _mcp_obstacle(model: McpModel, env: Mapping[str, str]) -> Obstacle | None:
    if importlib.util.find_spec("mcp") is None:
        return Obstacle("the extra `mcp` is not installed", "pip install 'llmstack-local[mcp]'")
    if shutil.which(model.command[0], path=env.get("PATH")) is None:
        return Obstacle(
            f"`{model.command[0]}` is not on PATH", "install it, or correct `command` in models.ini"
        )
    return None


def _missing_file(tier: str, model: GgufModel) -> tuple[str, str]:
    if model.path is not None:
        return f"{model.path} is not on disk", "put the file there, or correct `path` in models.ini"
    return f"{model.file} is not on disk", f"fetch it with `llmstack download {tier}`"

"""Why a tier cannot start, as far as it shows without opening a file; small, since `status` waits for it."""

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
    """Why a tier cannot start, and the command that mends it."""

    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.hint})"


def missing(config: StackConfig, env: Mapping[str, str]) -> dict[str, str]:
    """Return tiers that lack something, with reason and remedy, without opening any file."""
    _, no_engine = engine_here(env)
    found = {name: find(tier, env, no_engine)[1] for name, tier in config.tiers.items()}
    return {name: str(obstacle) for name, obstacle in found.items() if obstacle is not None}


def engine_here(env: Mapping[str, str]) -> tuple[EngineBinary | None, Obstacle | None]:
    """Return the engine, or why there is none."""
    try:
        return find_engine(env), None
    except LlmstackError as error:
        return None, Obstacle(error.message, error.hint or "")


def find(
    tier: Tier, env: Mapping[str, str], no_engine: Obstacle | None
) -> tuple[Path | None, Obstacle | None]:
    """Return the file to load, and what is missing."""
    if tier.backend is BackendKind.LITELLM and isinstance(tier.model, HostedModel):
        return None, _no_litellm(tier.model, env)
    if isinstance(tier.model, HostedModel):
        return None, _no_server(tier.model, env)
    if isinstance(tier.model, McpModel):
        return None, _no_mcp(tier.model, env)
    weights = find_weights(tier.model, env)
    return weights, no_engine if weights is not None else Obstacle(*_missing(tier.name, tier.model))


def _no_litellm(model: HostedModel, env: Mapping[str, str]) -> Obstacle | None:
    """Return what LiteLLM lacks for a model."""
    try:
        if find_litellm(env) is None:
            return Obstacle("LiteLLM is not installed", INSTALL)
    except LlmstackError as error:
        return Obstacle(error.message, error.hint or "")
    if model.base_url is not None:
        return None  # a server of its own: some want a key, some do not
    absent = missing_keys(model, env)
    if not absent:
        return None
    named = " and ".join(f"${name}" for name in absent)
    verb = "is" if len(absent) == 1 else "are"
    hint = f"export {absent[0]}=… and `llmstack restart`"
    return Obstacle(f"{named} {verb} not set, which {model.provider} wants", hint)


def _no_server(model: HostedModel, env: Mapping[str, str]) -> Obstacle | None:
    """Return why a server cannot be asked; whether it answers is seen by asking it."""
    from llmstack.providers.errors import ProviderError  # noqa: PLC0415 - most stacks have no such tier
    from llmstack.providers.model_aliases import ModelAliases  # noqa: PLC0415
    from llmstack.providers.resolve import resolve  # noqa: PLC0415

    try:
        resolve(model.label, env, ModelAliases(), base_url=model.base_url)
    except ProviderError as error:
        return Obstacle(error.message, error.hint or "correct `model` in models.ini")
    return None


def _no_mcp(model: McpModel, env: Mapping[str, str]) -> Obstacle | None:
    if importlib.util.find_spec("mcp") is None:
        return Obstacle("the extra `mcp` is not installed", "pip install 'llmstack-local[mcp]'")
    if shutil.which(model.command[0], path=env.get("PATH")) is None:
        return Obstacle(
            f"`{model.command[0]}` is not on PATH", "install it, or correct `command` in models.ini"
        )
    return None


def _missing(tier: str, model: GgufModel) -> tuple[str, str]:
    if model.path is not None:
        return f"{model.path} is not on disk", "put the file there, or correct `path` in models.ini"
    return f"{model.file} is not on disk", f"fetch it with `llmstack download {tier}`"

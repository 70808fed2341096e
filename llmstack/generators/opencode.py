"""`opencode.json`, opencode's configuration for this stack, and the instructions for agents, AGENTS.md."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from llmstack.config.model import BackendKind, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmstack.config.model import StackConfig, Tier

PROVIDER = "llama.cpp"
AUTO = "auto"

# opencode's own limit of 300 s would abort a long load or prefill; the router sends something more often.
_CHUNK_TIMEOUT_MS = 900_000
_OUTPUT_DEFAULT = 8192
_CONTEXT_DEFAULT = 32_768

# `deny`, not `ask`: opencode can be configured to allow everything it would ask for. No `task` either, as a
# subagent could edit.
_READ_ONLY = {"edit": "deny", "bash": "deny", "task": "deny"}


def agents_md() -> str:
    """Return the instructions for agents on this stack."""
    return files("llmstack.generators").joinpath("AGENTS.md").read_text(encoding="utf-8")


def render(
    config: StackConfig,
    *,
    base_url: str,
    instructions: str,
    more_instructions: Sequence[str] = (),
    auto_context: int | None = None,
) -> str:
    """Return the text of `opencode.json`.

    Args:
        config: the stack, on the channel that runs.
        base_url: the router's URL, without `/v1`.
        instructions: path of the instructions for agents.
        more_instructions: paths of more instructions, which need not exist. Under `llmstack run` the
            repository's AGENTS.md, which opencode does not read if it ignores the repository's configuration.
        auto_context: context window of `auto` in tokens, if a remote router offers another than `config`.
    """
    document = {
        "$schema": "https://opencode.ai/config.json",
        "autoupdate": False,
        "share": "disabled",
        "enabled_providers": [PROVIDER],
        "model": _ref(AUTO),
        "small_model": _ref(small_model(config)),
        "instructions": [instructions, *more_instructions],
        "provider": {PROVIDER: _provider(config, base_url, auto_context)},
        "agent": _agents(config),
    }
    return _dump(document)


def _dump(document: dict[str, Any]) -> str:
    # opencode replaces {env:X} and {file:X} anywhere in the text before it parses it. That is intended for
    # the key only; in a tier's name or a path it would leak a variable or a file.
    text = json.dumps(document, indent=2, ensure_ascii=False)
    for reference in ("{env:", "{file:"):
        text = text.replace(reference, reference.replace("{", "\\u007b"))
    return text.replace('"apiKey": "\\u007benv:', '"apiKey": "{env:', 1) + "\n"


def _ref(model: str) -> str:
    return f"{PROVIDER}/{model}"


def small_model(config: StackConfig) -> str:
    """Return the name of the model for small chores, such as titles of conversations."""
    # Not `auto` if possible: it may send such short requests to the ultra tier, which may cost money.
    # Without this setting opencode would choose a model itself.
    tier = config.by_role(Role.FAST) or config.by_role(Role.AGENT)
    return tier.name if tier else AUTO


def _provider(config: StackConfig, base_url: str, auto_context: int | None) -> dict[str, Any]:
    return {
        "npm": "@ai-sdk/openai-compatible",
        "name": "llmstack",
        "options": {
            "baseURL": f"{base_url.rstrip('/')}/v1",
            # If the variable is unset, opencode sends no Authorization header, which is right on loopback.
            "apiKey": f"{{env:{config.settings.api_key_env}}}",
            "timeout": False,
            "headerTimeout": False,
            "chunkTimeout": _CHUNK_TIMEOUT_MS,
        },
        "models": {
            AUTO: _auto(_auto_tiers(config), auto_context),
            # Embedding and reranking tiers cannot chat.
            **{tier.name: _tier(tier) for tier in config.tiers.values() if tier.serves == "chat"},
        },
    }


def _auto_tiers(config: StackConfig) -> list[Tier]:
    """Return the tiers that `auto` can send a request to; the plan tier only if there is no other."""
    ladder = [tier for tier in map(config.by_role, (Role.FAST, Role.AGENT, Role.ULTRA)) if tier]
    plan = config.by_role(Role.PLAN)
    return ladder or ([plan] if plan else [tier for tier in config.tiers.values() if tier.serves == "chat"])


def auto_limits(config: StackConfig) -> tuple[int, int]:
    """Return the context window of `auto` and the most output tokens to request, both in tokens."""
    return _limits(_auto_tiers(config))


def _limits(tiers: Sequence[Tier], context: int | None = None) -> tuple[int, int]:
    # The largest window: the router moves a conversation to a tier that it fits. The smallest output:
    # opencode requests all of it each time, and the router skips a tier that prompt and output do not fit.
    window = context or max((tier.ctx_size for tier in tiers), default=_CONTEXT_DEFAULT)
    output = min((_output(tier) for tier in tiers), default=_OUTPUT_DEFAULT)
    return window, min(output, window // 2)


def _auto(tiers: Sequence[Tier], context: int | None) -> dict[str, Any]:
    window, output = _limits(tiers, context)
    accepts_images = any("image" in tier.modalities for tier in tiers)
    return _model(
        "auto (picks a tier for each request)", window, output, tool_call=True, accepts_images=accepts_images
    )


def _tier(tier: Tier) -> dict[str, Any]:
    name = f"{tier.name} ({tier.description})" if tier.description else tier.name
    # A model behind an MCP tool takes a prompt and returns text; it cannot call tools.
    calls_tools = tier.backend is not BackendKind.MCP
    accepts_images = "image" in tier.modalities
    return _model(name, tier.ctx_size, _output(tier), tool_call=calls_tools, accepts_images=accepts_images)


def _output(tier: Tier) -> int:
    # opencode compacts at context - min(20 000, output): more than half the window and it never stops.
    if tier.max_output_tokens is None:
        return min(_OUTPUT_DEFAULT, tier.ctx_size // 4)
    return min(tier.max_output_tokens, tier.ctx_size // 2)


def _model(name: str, context: int, output: int, *, tool_call: bool, accepts_images: bool) -> dict[str, Any]:
    return {
        "name": name,
        "tool_call": tool_call,
        # Together these send a model's own reasoning back to it in later turns.
        "reasoning": True,
        "interleaved": {"field": "reasoning_content"},
        "attachment": accepts_images,
        "modalities": {"input": ["text", "image"] if accepts_images else ["text"], "output": ["text"]},
        "limit": {"context": context, "output": output},
    }


def _agents(config: StackConfig) -> dict[str, Any]:
    agents: dict[str, Any] = {"build": {"model": _ref(AUTO)}}
    if plan := config.by_role(Role.PLAN):
        agents["plan"] = {"model": _ref(plan.name), "permission": _READ_ONLY}
    if uncensored := config.by_role(Role.PLAN_UNCENSORED):
        agents["plan-nofilter"] = {
            "description": "Plans with the unfiltered model; reads, never writes.",
            "mode": "all",
            "model": _ref(uncensored.name),
            "permission": _READ_ONLY,
        }
    return agents

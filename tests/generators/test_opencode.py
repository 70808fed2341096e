from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmstack.config.model import (
    BackendKind,
    GgufModel,
    HostedModel,
    McpModel,
    Role,
    Routing,
    Sampler,
    Settings,
    StackConfig,
    Tier,
)
from llmstack.generators.opencode import agents_md, render

GOLDEN = Path(__file__).parent / "golden"


def gguf(name: str, ctx_size: int, role: Role | None = None, **more: Any) -> Tier:
    model = GgufModel(repo=f"example/{name}-GGUF", file=f"{name}.gguf")
    return Tier(
        name, BackendKind.GGUF, model, ctx_size, role=role, sampler=Sampler(temp=0.5, top_k=20), **more
    )


def stack(*tiers: Tier, settings: Settings | None = None) -> StackConfig:
    return StackConfig(settings or Settings(), Routing(), {tier.name: tier for tier in tiers})


FAST = gguf("code-fast", 131_072, Role.FAST, description="autocomplete, short edits")
AGENT = gguf("code-smart", 65_536, Role.AGENT, aliases=("agent",), description="multi-file edits")
PLAN = gguf("plan", 131_072, Role.PLAN, max_output_tokens=16_384)
NOFILTER = gguf("plan-uncensored", 131_072, Role.PLAN_UNCENSORED, aliases=("nofilter",))
ULTRA = Tier(
    "code-ultra", BackendKind.LITELLM, HostedModel("anthropic", "claude-opus"), 200_000, role=Role.ULTRA
)
REFERENCE = stack(FAST, AGENT, PLAN, NOFILTER, ULTRA)


def text_of(config: StackConfig, **more: Any) -> str:
    return render(config, base_url="http://127.0.0.1:10101", instructions="/work/.llmstack/AGENTS.md", **more)


def document(config: StackConfig, **more: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(text_of(config, **more))
    return loaded


def models(config: StackConfig, **more: Any) -> dict[str, Any]:
    entries: dict[str, Any] = document(config, **more)["provider"]["llama.cpp"]["models"]
    return entries


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("opencode-reference.json", REFERENCE),
        ("opencode-one-tier.json", stack(gguf("coder", 32_768, Role.AGENT))),
    ],
)
def test_the_text_is_as_in_the_golden_file(name: str, config: StackConfig) -> None:
    assert text_of(config) == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("tiers", "small", "agents"),
    [
        ([FAST], "code-fast", {"build": "auto"}),
        ([AGENT, ULTRA], "code-smart", {"build": "auto"}),
        ([ULTRA], "auto", {"build": "auto"}),
        ([PLAN], "auto", {"build": "auto", "plan": "plan"}),
        ([FAST, NOFILTER], "code-fast", {"build": "auto", "plan-nofilter": "plan-uncensored"}),
        (
            [replace(PLAN, name="think"), replace(NOFILTER, name="free")],
            "auto",
            {"build": "auto", "plan": "think", "plan-nofilter": "free"},
        ),
    ],
)
def test_only_declared_roles_get_agents(tiers: list[Tier], small: str, agents: dict[str, str]) -> None:
    output = document(stack(*tiers))
    assert output["model"] == "llama.cpp/auto"
    assert output["small_model"] == f"llama.cpp/{small}"
    assert {name: agent["model"] for name, agent in output["agent"].items()} == {
        name: f"llama.cpp/{model}" for name, model in agents.items()
    }
    assert list(output["provider"]["llama.cpp"]["models"]) == ["auto", *(tier.name for tier in tiers)]


@pytest.mark.parametrize(
    ("tiers", "context", "output"),
    [
        ([FAST, AGENT, ULTRA, PLAN], 200_000, 8192),
        ([AGENT, PLAN], 65_536, 8192),
        ([PLAN], 131_072, 16_384),
        ([gguf("anything", 16_384)], 16_384, 4096),
        ([gguf("tiny", 8192, Role.FAST), ULTRA], 200_000, 2048),
        ([], 32_768, 8192),
    ],
)
def test_auto_offers_the_largest_window_and_the_smallest_output(
    tiers: list[Tier], context: int, output: int
) -> None:
    assert models(stack(*tiers))["auto"]["limit"] == {"context": context, "output": output}


def test_auto_has_the_window_that_a_remote_router_offers() -> None:
    assert models(REFERENCE, auto_context=131_072)["auto"]["limit"] == {"context": 131_072, "output": 8192}


@pytest.mark.parametrize(
    ("ctx_size", "max_output", "output"),
    [(131_072, None, 8192), (16_384, None, 4096), (65_536, 32_000, 32_000), (16_384, 16_384, 8192)],
)
def test_an_answer_leaves_room_for_the_prompt(ctx_size: int, max_output: int | None, output: int) -> None:
    tier = gguf("coder", ctx_size, Role.AGENT, max_output_tokens=max_output)
    assert models(stack(tier))["coder"]["limit"] == {"context": ctx_size, "output": output}


def test_a_model_behind_an_mcp_tool_calls_no_tools() -> None:
    tier = Tier("far", BackendKind.MCP, McpModel(("serve",), "ask"), 32_768, role=Role.AGENT)
    assert models(stack(tier))["far"]["tool_call"] is False


def test_the_key_is_a_reference_and_no_other_reference_survives() -> None:
    config = stack(
        gguf("{env:HOME}", 32_768, Role.AGENT, description="{file:/etc/passwd}"),
        settings=Settings(api_key_env="TEAM_KEY"),
    )
    text = text_of(config)
    assert text.count("{env:") == 1
    assert '"apiKey": "{env:TEAM_KEY}"' in text
    assert "{file:" not in text
    assert models(config)["{env:HOME}"]["name"] == "{env:HOME} ({file:/etc/passwd})"


def test_no_sampler_value_is_written() -> None:
    text = text_of(REFERENCE)
    assert not [key for key in ("temperature", "top_p", "top_k", "min_p", "rep_pen") if key in text]


def test_a_trailing_slash_of_the_url_is_dropped() -> None:
    output = json.loads(render(REFERENCE, base_url="http://box:1/", instructions="/a"))
    assert output["provider"]["llama.cpp"]["options"]["baseURL"] == "http://box:1/v1"


def test_more_instructions_follow_those_of_the_stack() -> None:
    output = document(REFERENCE, more_instructions=["/work/AGENTS.md"])
    assert output["instructions"] == ["/work/.llmstack/AGENTS.md", "/work/AGENTS.md"]


def test_the_instructions_do_not_select_the_ultra_tier() -> None:
    text = agents_md()
    assert text.startswith("# ")
    assert not [line for line in text.splitlines() if line.lower().lstrip().startswith(("ultra:", "opus:"))]


def test_models_with_vision_accept_images_and_embedding_models_are_omitted() -> None:
    vision = replace(AGENT, modalities=("text", "image"))
    embeds = gguf("embed", 8192, serves="embedding")
    text = render(stack(FAST, vision, embeds), base_url="http://127.0.0.1:1", instructions="/a")
    models = json.loads(text)["provider"]["llama.cpp"]["models"]
    offered = {name: (model["attachment"], model["modalities"]["input"]) for name, model in models.items()}
    assert offered == {
        "auto": (True, ["text", "image"]),
        "code-fast": (False, ["text"]),
        "code-smart": (True, ["text", "image"]),
    }

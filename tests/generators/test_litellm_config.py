"""`litellm_config.yaml`: the values of models.ini, and the edits of the user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.yaml_text import load_yaml

from llmstack.config import parse
from llmstack.errors import LlmstackError
from llmstack.generators.litellm import render

if TYPE_CHECKING:
    from llmstack.config.model import StackConfig

ULTRA = """
[code-ultra]
model = anthropic/claude-opus-4-6
model_next = anthropic/claude-opus-5
"""
MIXED = f"""
[DEFAULT]
ctx_size = 64k
[code-fast]
path = /m/fast.gguf
{ULTRA}
[plan]
model = openai/some-model
base_url = http://far:8000/v1
"""


def config(text: str) -> StackConfig:
    return parse(text, "models.ini", base=Path("/p"))


def rendered(text: str, existing: str | None = None) -> str:
    out = render(config(text), existing)
    assert out is not None
    return out


def entries(text: str) -> dict[str, dict[str, str]]:
    return {each["model_name"]: each["litellm_params"] for each in load_yaml(text)["model_list"]}


def test_one_entry_for_each_tier_and_each_queued_upgrade() -> None:
    text = rendered(MIXED)
    key = "os.environ/ANTHROPIC_API_KEY"
    assert entries(text) == {
        "code-ultra": {"model": "anthropic/claude-opus-4-6", "api_key": key},
        "code-ultra_next": {"model": "anthropic/claude-opus-5", "api_key": key},
        "plan": {
            "model": "openai/some-model",
            "api_base": "http://far:8000/v1",
            "api_key": "os.environ/OPENAI_API_KEY",
        },
    }
    document = load_yaml(text)
    assert document["litellm_settings"]["drop_params"] is True
    assert document["router_settings"] == {"num_retries": 0, "disable_cooldowns": True}
    assert text.startswith("# LiteLLM's configuration.")
    assert rendered(MIXED, text) == text


def test_there_is_no_file_without_a_litellm_tier() -> None:
    assert render(config("[code-fast]\npath = /m/f.gguf\nctx_size = 64k\n"), None) is None


def test_edits_and_comments_survive_changes_of_models_ini() -> None:
    edited = (
        rendered(MIXED)
        .replace("model: openai/some-model\n", "model: openai/mine   # better for plans\n", 1)
        .replace("drop_params: true", "drop_params: false  # I want to see them")
        .replace(
            "model_list:\n", "model_list:\n  # mine\n  - {model_name: own, litellm_params: {model: x/y}}\n"
        )
    )
    text = rendered(MIXED.replace("claude-opus-4-6", "claude-opus-9").replace("far:8000", "far:9000"), edited)
    assert entries(text) == {
        "own": {"model": "x/y"},
        "code-ultra": {"model": "anthropic/claude-opus-9", "api_key": "os.environ/ANTHROPIC_API_KEY"},
        "code-ultra_next": {"model": "anthropic/claude-opus-5", "api_key": "os.environ/ANTHROPIC_API_KEY"},
        "plan": {
            "model": "openai/mine",
            "api_base": "http://far:9000/v1",
            "api_key": "os.environ/OPENAI_API_KEY",
        },
    }
    for edit in (
        "# better for plans",
        "drop_params: false  # I want to see them",
        "  # mine\n  - {model_name",
    ):
        assert edit in text


def test_an_entry_without_a_tier_is_removed_unless_it_was_edited() -> None:
    existing = rendered(MIXED).replace("model: anthropic/claude-opus-5\n", "model: anthropic/own\n", 1)
    assert list(entries(rendered("[x]\nmodel = openai/y\nctx_size = 8k\n", existing))) == [
        "code-ultra_next",
        "x",
    ]


def test_an_entry_of_the_user_stays_unchanged() -> None:
    own = "model_list:\n- model_name: plan\n  litellm_params:\n    model: bedrock/x\n"
    assert entries(rendered(MIXED, own))["plan"] == {"model": "bedrock/x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_list: [", "litellm_config.yaml:1: not YAML"),
        ("api_version: 2026-13-45\n", "litellm_config.yaml: a value cannot be read: month must be in 1..12"),
        ("drop_params: !!bool maybe\n", "litellm_config.yaml: a value cannot be read: 'maybe'"),
        ("[" * 2000, "litellm_config.yaml: a value cannot be read: maximum recursion depth"),
        ("- a\n", "expected a mapping whose `model_list` is a list of models"),
        ("model_list: 7\n", "expected a mapping whose `model_list` is a list of models"),
        ("model_list: [a]\n", "expected a mapping whose `model_list` is a list of models"),
    ],
)
def test_a_file_that_cannot_be_merged_is_an_error(text: str, message: str) -> None:
    with pytest.raises(LlmstackError) as raised:
        render(config(MIXED), text)
    assert message in raised.value.message

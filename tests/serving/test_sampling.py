"""Which sampling values of models.ini are added to a request for a hosted tier."""

from __future__ import annotations

import pytest

from llmstack.config.model import BackendKind, HostedModel, Sampler, Tier
from llmstack.providers.model_aliases import load_bundled_aliases
from llmstack.serving.sampling import sampling_defaults

ALL = {"temperature": 0.2, "top_p": 0.9, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05}
CLAUDE = frozenset(("temperature", "top_p"))


@pytest.mark.parametrize(
    ("label", "base_url", "accepted", "one_of"),
    [
        ("anthropic/claude-opus-4-6", None, (), CLAUDE),
        ("anthropic/claude-sonnet-4-6", None, ("temperature", "top_p", "top_k"), CLAUDE),
        ("bedrock/anthropic.claude-x", None, ("temperature", "top_p", "top_k"), CLAUDE),
        ("openai/gpt-4o", None, ("temperature", "top_p"), ()),
        ("openai/gpt-5.2", None, (), ()),
        ("openai/gpt-5.2", "http://127.0.0.1:1/v1", tuple(ALL), ()),
        ("gemini/gemini-3-pro", None, ("temperature", "top_p", "top_k"), ()),
        ("mistral/mistral-large-2411", None, ("temperature", "top_p"), ()),
        ("ollama/x", None, tuple(ALL), ()),
        ("somebody/else", None, tuple(ALL), ()),
    ],
)
def test_values_that_the_model_accepts_are_added(
    label: str, base_url: str | None, accepted: tuple[str, ...], one_of: frozenset[str] | tuple[()]
) -> None:
    provider, _, model = label.partition("/")
    sampler = Sampler(temp=0.2, top_p=0.9, top_k=20, min_p=0.05, rep_pen=1.05)
    tier = Tier("t", BackendKind.LITELLM, HostedModel(provider, model, base_url), 8_000, sampler=sampler)
    added = sampling_defaults(tier, load_bundled_aliases())
    assert added.values == {name: ALL[name] for name in accepted}
    assert added.one_of == frozenset(one_of)

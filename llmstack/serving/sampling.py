"""Sampling defaults of models.ini as members of a request, for servers that do not have them as flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.config.model import HostedModel
from llmstack.serving.base import Defaults

if TYPE_CHECKING:
    from llmstack.config.model import Tier
    from llmstack.providers.model_aliases import ModelAliases

# Sampler values of models.ini, as APIs call them.
_NAMES = {
    "temp": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "rep_pen": "repetition_penalty",
}
# What a provider takes, where that is not all of them; what single models refuse, `ModelAliases` knows.
_TAKES = {
    "azure": {"temperature", "top_p"},
    "bedrock": {"temperature", "top_p", "top_k"},
    "cerebras": {"temperature", "top_p"},
    "gemini": {"temperature", "top_p", "top_k"},
    "groq": {"temperature", "top_p"},
    "mistral": {"temperature", "top_p"},
    "vertex_ai": {"temperature", "top_p", "top_k"},
    "xai": {"temperature", "top_p"},
}


def defaults_of(tier: Tier, known: ModelAliases) -> Defaults:
    """Return the members that a hosted tier's requests get where the caller sent none."""
    model = tier.model
    values = {
        name: value for key, name in _NAMES.items() if (value := getattr(tier.sampler, key)) is not None
    }
    if isinstance(model, HostedModel) and model.base_url is None:  # at another address it is another server
        takes = _TAKES.get(model.provider, set(values))
        takes = takes - known.limits_for(model.provider, model.id).refuses
        values = {name: value for name, value in values.items() if name in takes}
    claude = isinstance(model, HostedModel) and "claude" in model.id
    return Defaults(values, one_of=frozenset({"temperature", "top_p"}) if claude else frozenset())

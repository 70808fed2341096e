"""Sampling defaults of models.ini as members of a request, for servers that do not have them as flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.config.model import HostedModel
from llmstack.serving.base import SamplingDefaults

if TYPE_CHECKING:
    from llmstack.config.model import Tier
    from llmstack.providers.model_aliases import ModelAliases

# Values of `sampler` in models.ini, with their names in APIs.
_API_NAME_OF_SAMPLER_KEY = {
    "temp": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "rep_pen": "repetition_penalty",
}
# Providers that accept only some of them; a value that is not known to work is left out.
# What single models refuse is in providers/models.toml.
_ACCEPTED_BY_PROVIDER = {
    "azure": {"temperature", "top_p"},
    "bedrock": {"temperature", "top_p", "top_k"},
    "cerebras": {"temperature", "top_p"},
    "gemini": {"temperature", "top_p", "top_k"},
    "groq": {"temperature", "top_p"},
    "mistral": {"temperature", "top_p"},
    "vertex_ai": {"temperature", "top_p", "top_k"},
    "xai": {"temperature", "top_p"},
}


def sampling_defaults(tier: Tier, aliases: ModelAliases) -> SamplingDefaults:
    """Return the sampling values that a hosted tier's requests get if the client sent none."""
    model = tier.model
    values = {
        name: value
        for key, name in _API_NAME_OF_SAMPLER_KEY.items()
        if (value := getattr(tier.sampler, key)) is not None
    }
    if isinstance(model, HostedModel) and model.base_url is None:  # at another address it is another server
        accepted = _ACCEPTED_BY_PROVIDER.get(model.provider, set(values))
        accepted = accepted - aliases.limits_for(model.provider, model.id).refuses
        values = {name: value for name, value in values.items() if name in accepted}
    claude = isinstance(model, HostedModel) and "claude" in model.id
    return SamplingDefaults(values, one_of=frozenset({"temperature", "top_p"}) if claude else frozenset())

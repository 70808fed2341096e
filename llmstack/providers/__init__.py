"""Call any provider's model through one interface.

    from llmstack import providers

    result = providers.model("anthropic/haiku").call("hello")
    result.output, result.tokens_used.output

Heavy modules are imported by `model` only: the router imports this package for addresses and limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.providers.base import RETRIES, TIMEOUT_S, Result, TokensUsed
from llmstack.providers.errors import (
    MalformedResponseError,
    MissingKeyError,
    OwnAddressError,
    ProviderError,
    ProviderUnreachableError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    UnknownModelError,
    UnsupportedParameterError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from llmstack.providers.model_api import Model
    from llmstack.providers.retries import RetryPolicy

__all__ = [
    "MalformedResponseError",
    "MissingKeyError",
    "OwnAddressError",
    "ProviderError",
    "ProviderUnreachableError",
    "RateLimitedError",
    "RejectedError",
    "Result",
    "TimedOutError",
    "TokensUsed",
    "UnknownModelError",
    "UnsupportedParameterError",
    "model",
]


def model(
    name: str,
    *,
    base_url: str | None = None,
    timeout_s: float = TIMEOUT_S,
    retries: int | RetryPolicy = RETRIES,
    strict: bool = False,
    env: Mapping[str, str] | None = None,
    config_dir: Path | None = None,
    own_addresses: Collection[str] = (),
    command: Sequence[str] | None = None,
) -> Model:
    """Return a model to call.

    Args:
        name: `<provider>/<id>`, the id a full name or a short one; `<provider>` alone is its default model.
            Providers: anthropic, openai, google_ai_studio (google, gemini), mistral, ollama,
            anthropic_ollama, devstral_local, vllm, lm_studio, llamacpp; and over MCP anthropic_mcp,
            openai_mcp, mistral_mcp, ollama_mcp.
        base_url: the server's address; takes precedence over environment variables.
        timeout_s: seconds for one call, retries included.
        retries: how often, or by which policy, transient failures are repeated.
        strict: raise an error if the model does not accept a parameter, instead of leaving it out.
        env: environment with keys and addresses; the process's own by default.
        config_dir: directory of the user's `models.toml`; the platform's by default.
        own_addresses: addresses of the router on whose behalf the call is made; calling them is an error.
        command: of the MCP server, for the `*_mcp` providers; `llmstack mcp` by default.

    Raises:
        ProviderError: there is no such provider or model, or the provider's key is not set.
    """
    from llmstack.providers.factory import open_model  # noqa: PLC0415 - imports httpx

    return open_model(
        name,
        base_url=base_url,
        timeout_s=timeout_s,
        retries=retries,
        strict=strict,
        env=env,
        config_dir=config_dir,
        own_addresses=own_addresses,
        command=command,
    )

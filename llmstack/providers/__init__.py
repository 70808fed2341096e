"""Every model there is, behind one interface.

    from llmstack import providers

    result = providers.model("anthropic/haiku").call("hello")
    result.output, result.tokens_used.output

Nothing heavy is imported before it is needed: the router reads addresses and limits here.
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
    from llmstack.providers.retries import Retries

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
    retries: int | Retries = RETRIES,
    strict: bool = False,
    env: Mapping[str, str] | None = None,
    config_dir: Path | None = None,
    own: Collection[str] = (),
    command: Sequence[str] | None = None,
) -> Model:
    """Return a model to call.

    Args:
        name: `<provider>/<id>`, the id a full name or a short one; `<provider>` alone is its default model.
            Providers: anthropic, openai, google_ai_studio (google, gemini), mistral, ollama,
            anthropic_ollama, devstral_local, vllm, lm_studio, llamacpp; and over MCP anthropic_mcp,
            openai_mcp, mistral_mcp, ollama_mcp.
        base_url: the server's address, before any variable.
        timeout_s: seconds for one call, tries and all.
        retries: how often what is transient is tried again.
        strict: a parameter that the model does not take is an error, not left out.
        env: the environment, where keys and addresses are; this process's own without it.
        config_dir: where the user's `models.toml` is; the platform's directory without it.
        own: addresses of the router that asks, which must not ask itself.
        command: of the MCP server, for the `*_mcp` forms; `llmstack mcp` without it.

    Raises:
        ProviderError: the name means nothing, or the provider's key is not set.
    """
    from llmstack.providers.factory import open_model  # noqa: PLC0415 - brings httpx

    return open_model(
        name,
        base_url=base_url,
        timeout_s=timeout_s,
        retries=retries,
        strict=strict,
        env=env,
        config_dir=config_dir,
        own=own,
        command=command,
    )

"""The token counts of a response, as each API writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmstack.providers.translation.base import Json


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one response, as the provider counted them.

    Attributes:
        prompt: tokens of the prompt, cached ones included.
        completion: generated tokens.
        cached: tokens of the prompt that came from a cache.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0


def read_chat_usage(usage: Any) -> Tokens | None:
    """Read the `usage` of a chat completion; None if it is missing."""
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details") or {}
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    # Google charges for thoughts, but counts them in the total alone.
    completion = max(completion, (usage.get("total_tokens") or 0) - prompt)
    return Tokens(prompt, completion, details.get("cached_tokens") or 0)


def read_messages_usage(usage: Json) -> Tokens:
    """Read the `usage` of Anthropic's API, whose `input_tokens` do not include cached ones."""
    cached = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    return Tokens(
        (usage.get("input_tokens") or 0) + cached + written, usage.get("output_tokens") or 0, cached
    )


def write_chat_usage(tokens: Tokens) -> Json:
    """Return the `usage` of a chat completion."""
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
    }


def write_messages_usage(tokens: Tokens) -> Json:
    """Return the `usage` of Anthropic's API, whose `input_tokens` do not include cached ones."""
    return {
        "input_tokens": tokens.prompt - tokens.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": tokens.cached,
        "output_tokens": tokens.completion,
    }


def write_responses_usage(tokens: Tokens) -> Json:
    """Return the `usage` of OpenAI's Responses API."""
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached},
        "output_tokens": tokens.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens.prompt + tokens.completion,
    }

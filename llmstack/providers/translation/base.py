"""What the translations share: their words, and what a stream's translator is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from llmstack.providers.errors import ProviderError

Json = dict[str, Any]


class CannotTranslateError(ProviderError):
    """A request uses what the other API has no word for."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one answer, as the provider counted them.

    Attributes:
        prompt: read for it, those from a cache included.
        completion: written.
        cached: of the prompt, taken from a cache.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0


class Rewriter(Protocol):
    """Turns the events of one answer into those of another API, one by one."""

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end, a proper one or an error."""

    @property
    def failed(self) -> bool:
        """Whether that end was an error event."""

    def event(self, data: Json) -> list[Json]:
        """Return what one event becomes."""

    def end(self) -> list[Json]:
        """Return what is still to be said at the stream's end; nothing where that is not a proper one."""


def texts(content: Any) -> str:
    """Return the text of a message's content, whichever form it has; what is no text is left out."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    found = [part if isinstance(part, str) else part.get("text") for part in content if part]
    return "\n".join(text for text in found if isinstance(text, str) and text)


def arguments(text: str | None) -> Json:
    """Return a tool call's arguments as an object; what is none is kept under one name."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"arguments": value}


def data_url(url: str) -> tuple[str, str] | None:
    """Return media type and base64 text of a `data:` address, None for any other."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    return head[len("data:") : -len(";base64")].partition(";")[0], data


def chat_tokens(usage: Any) -> Tokens | None:
    """Read the `usage` of a chat completion."""
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details") or {}
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    # Google counts what the model thought in the total alone, and charges for it.
    written = max(completion, (usage.get("total_tokens") or 0) - prompt)
    return Tokens(prompt, written, details.get("cached_tokens") or 0)


def chat_usage(tokens: Tokens) -> Json:
    """Return the `usage` of a chat completion."""
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
    }

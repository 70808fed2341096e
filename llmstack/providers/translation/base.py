"""What the translations share: helpers, their error, and the protocol of a stream's translator."""

from __future__ import annotations

import json
from typing import Any, Protocol

from llmstack.providers.errors import ProviderError

MAX_CONTAINERS = 100_000  # arrays and objects, which take about 60 ms to read

Json = dict[str, Any]


class CannotTranslateError(ProviderError):
    """A request uses a feature that the provider's API does not support."""


class EventTranslator(Protocol):
    """Translates the events of one response into those of another API, one by one."""

    @property
    def is_complete(self) -> bool:
        """Whether the response has ended, properly or with an error."""

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error event."""

    def translate(self, event: Json) -> list[Json]:
        """Return the events that one event becomes."""

    def finish(self) -> list[Json]:
        """Return the events that follow the stream's end; empty if the response is cut off."""


def is_too_complex(data: bytes) -> bool:
    """Return whether JSON may hold too many arrays and objects to be read at once; takes 1 ms for 4 MB."""
    return len(data) > MAX_CONTAINERS and data.count(b"[") + data.count(b"{") > MAX_CONTAINERS


def extract_text(content: Any) -> str:
    """Return the text of a message's content, a string or a list of parts; other parts are left out."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part if isinstance(part, str) else part.get("text") for part in content if part]
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def parse_arguments(text: str | None) -> Json:
    """Return the arguments of a tool call as an object; what is none becomes its member `arguments`."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"arguments": value}


def parse_data_url(url: str) -> tuple[str, str] | None:
    """Return media type and base64 text of a `data:` URL; None for any other URL."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    return head[len("data:") : -len(";base64")].partition(";")[0], data

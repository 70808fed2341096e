"""Read messages and chunks of chat completions, in the variants that servers write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.units import MB
from llmstack.upstream.limits import MAX_TRANSLATED_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmstack.providers.translation.base import Json

_ITEM_BYTES = 1024  # about what an object takes


def read_text(message: Json) -> str:
    """Return the text of a message or a delta; Mistral sends a list of parts if the model reasons."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if part.get("type") == "text")
    return content or message.get("refusal") or ""


def read_reasoning(message: Json) -> str:
    """Return the reasoning in a message or a delta.

    llama.cpp and DeepSeek send `reasoning_content`, vLLM `reasoning`, Mistral parts of type `thinking`.
    """
    text = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(text, str):
        return text
    content = message.get("content")
    if not isinstance(content, list):
        return ""
    parts = [part.get("thinking") for part in content if part.get("type") == "thinking"]
    return "".join(
        piece.get("text") or ""
        for thinking in parts
        for piece in (thinking if isinstance(thinking, list) else [])
    )


def read_finish_reason(choice: Json) -> str | None:
    """Return why a response ended; None if it goes on.

    Raises:
        ValueError: the model failed, which Mistral and OpenRouter report as a finish reason.
    """
    reason: str | None = choice.get("finish_reason")
    if reason == "error":
        raise ValueError("the model failed in mid-answer")
    return "length" if reason == "model_length" else reason  # Mistral's word for a full context window


@dataclass(slots=True)
class ToolCall:
    """The parts of a tool call that have arrived.

    Attributes:
        block_started: whether the event that starts its content block was sent (Anthropic's API).
    """

    id: str
    name: str = ""
    arguments: str = ""
    block_started: bool = False

    @property
    def content_block(self) -> Json:
        """The block with which Anthropic's API announces the call."""
        return {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}


class KeptSize:
    """Limits what a translator keeps of a stream until its end."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, size: int) -> None:
        """Note so many more bytes.

        Raises:
            ValueError: they are too many.
        """
        self._bytes += size
        if self._bytes > MAX_TRANSLATED_BYTES:
            raise ValueError(f"its text or its tool calls are longer than {MAX_TRANSLATED_BYTES // MB} MB")

    def add_item(self) -> None:
        """Note one more object; see `add`."""
        self.add(_ITEM_BYTES)


class ToolCalls:
    """The tool calls of one response, assembled from their deltas."""

    def __init__(self) -> None:
        self._calls: dict[int, ToolCall] = {}
        # The call that an index refers to now, if a server used the same index for several calls.
        self._reassigned: dict[int, int] = {}
        self._size = KeptSize()

    def __len__(self) -> int:
        return len(self._calls)

    def feed(self, delta: Json) -> Iterator[tuple[int, ToolCall, str]]:
        """Yield the number, the call and the new piece of arguments for each tool call in a delta."""
        for piece in delta.get("tool_calls") or ():
            number = self._number(piece)
            function = piece.get("function") or {}
            if number not in self._calls:
                self._size.add_item()
            call = self._calls.setdefault(number, ToolCall(piece.get("id") or f"call_{number}"))
            call.name = call.name or function.get("name") or ""
            text = function.get("arguments") or ""
            self._size.add(len(text))
            call.arguments += text
            yield number, call, text

    def without_block(self) -> list[tuple[int, ToolCall]]:
        """Return number and call of those whose content block has not started."""
        return [(number, call) for number, call in self._calls.items() if not call.block_started]

    def all(self) -> list[ToolCall]:
        """Return every call, in order."""
        return list(self._calls.values())

    def _number(self, piece: Json) -> int:
        """Return the number of the call that a piece belongs to.

        Some servers omit the index and send calls whole. Others give every call the index 0: there, a new id
        together with a name is a new call.
        """
        index = piece.get("index")
        if isinstance(index, int):
            previous = self._calls.get(self._reassigned.get(index, index))
            starts_call = bool(piece.get("id")) and bool((piece.get("function") or {}).get("name"))
            if previous is not None and starts_call and previous.id != piece["id"]:
                self._reassigned[index] = max(self._calls) + 1
            return self._reassigned.get(index, index)
        same_id = next((number for number, call in self._calls.items() if call.id == piece.get("id")), None)
        if same_id is not None:
            return same_id
        return len(self._calls) if piece.get("id") or not self._calls else len(self._calls) - 1

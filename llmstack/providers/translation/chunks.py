"""Reading the pieces of a chat completion's stream, in the forms that servers give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmstack.providers.translation.base import Json


def said(message: Json) -> str:
    """Return the text of a message or a piece of one; Mistral's is a list of parts where the model thinks."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if part.get("type") == "text")
    return content or message.get("refusal") or ""


def thought(message: Json) -> str:
    """Return what the model thought: llama.cpp's and DeepSeek's field, vLLM's, or Mistral's parts."""
    plain = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(plain, str):
        return plain
    content = message.get("content")
    if not isinstance(content, list):
        return ""
    parts = [part.get("thinking") for part in content if part.get("type") == "thinking"]
    return "".join(
        piece.get("text") or ""
        for thinking in parts
        for piece in (thinking if isinstance(thinking, list) else [])
    )


def finish(choice: Json) -> str | None:
    """Return why an answer or a piece of one ended; None where it goes on.

    Raises:
        ValueError: the model failed, as Mistral and OpenRouter say it.
    """
    reason: str | None = choice.get("finish_reason")
    if reason == "error":
        raise ValueError("the model failed in mid-answer")
    return "length" if reason == "model_length" else reason  # Mistral's, of a full window


@dataclass(slots=True)
class ToolCall:
    """One tool call as far as it has come.

    Attributes:
        sent: its block has been opened.
    """

    id: str
    name: str = ""
    arguments: str = ""
    sent: bool = False

    @property
    def start(self) -> Json:
        """As Anthropic announces it."""
        return {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}


class ToolCalls:
    """The tool calls of one answer, put together from their pieces."""

    def __init__(self) -> None:
        self._calls: dict[int, ToolCall] = {}
        self._last: dict[int, int] = {}  # number of the last call that came under a number of another

    def __len__(self) -> int:
        return len(self._calls)

    def feed(self, delta: Json) -> Iterator[tuple[int, ToolCall, str]]:
        """Yield number, call and new piece of arguments of what a delta says of tool calls."""
        for piece in delta.get("tool_calls") or ():
            number = self._number(piece)
            function = piece.get("function") or {}
            call = self._calls.setdefault(number, ToolCall(piece.get("id") or f"call_{number}"))
            call.name = call.name or function.get("name") or ""
            text = function.get("arguments") or ""
            call.arguments += text
            yield number, call, text

    def waiting(self) -> list[tuple[int, ToolCall]]:
        """Return the calls whose block has not been opened."""
        return [(number, call) for number, call in self._calls.items() if not call.sent]

    def all(self) -> list[ToolCall]:
        """Return every call, in order."""
        return list(self._calls.values())

    def _number(self, piece: Json) -> int:
        """Return which call a piece belongs to; some servers leave the number out, and send calls whole.

        Others number every call 0: another id with a name is another call.
        """
        index = piece.get("index")
        if isinstance(index, int):
            last = self._calls.get(self._last.get(index, index))
            begins = bool(piece.get("id")) and bool((piece.get("function") or {}).get("name"))
            if last is not None and begins and last.id != piece["id"]:
                self._last[index] = max(self._calls) + 1
            return self._last.get(index, index)
        known = next((number for number, call in self._calls.items() if call.id == piece.get("id")), None)
        if known is not None:
            return known
        return len(self._calls) if piece.get("id") or not self._calls else len(self._calls) - 1

"""Translate chunks of a chat completion to events of the Messages API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmstack.providers.translation.completions import (
    KeptSize,
    ToolCalls,
    read_finish_reason,
    read_reasoning,
    read_text,
)
from llmstack.providers.translation.messages_on_chat.response import make_message, stop_reason
from llmstack.providers.translation.usage import Tokens, read_chat_usage, write_messages_usage

if TYPE_CHECKING:
    from llmstack.providers.translation.base import Json

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class ChatStreamToMessages:
    """Translates chunks of a chat completion to events of the Messages API.

    That API has one open content block at a time: deltas for other ones wait until it is complete.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.has_failed = False
        self._tokens: Tokens | None = None
        self._started = False
        self._open_block: str | None = None  # `thinking`, `text`, or `tool 3` for one of several calls
        self._index = -1
        self._calls = ToolCalls()
        self._size = KeptSize()
        self._late: Json = {"content": ""}  # text that arrived while a tool call was open
        self._finish_reason: str | None = None

    def translate(self, event: Json) -> list[Json]:
        """Return the events that one chunk becomes."""
        if event.get("error"):
            return self._error(event["error"])
        events: list[Json] = []
        if not self._started:
            self._started = True
            events.append({"type": "message_start", "message": make_message(event, [], None, Tokens())})
        self._tokens = read_chat_usage(event.get("usage")) or self._tokens
        for choice in event.get("choices") or ():
            events += self._delta(choice.get("delta") or {})
            self._finish_reason = read_finish_reason(choice) or self._finish_reason
        return events

    def finish(self) -> list[Json]:
        """Return the events that end the message; none if no finish reason has arrived."""
        if self._finish_reason is None or self.is_complete:
            return []
        self.is_complete = True
        events = []
        for number, call in self._calls.without_block():
            events += self._open(f"tool {number}", call.content_block)
            events += self._arguments(call.arguments)
        events += self._close()
        events += self._delta(self._late)
        events += self._close()
        reason = stop_reason(self._finish_reason, has_tool_calls=bool(self._calls))
        delta = {"stop_reason": reason, "stop_sequence": None}
        usage = write_messages_usage(self._tokens or Tokens())
        return [*events, {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]

    def _delta(self, delta: Json) -> list[Json]:
        events: list[Json] = []
        if (text := read_reasoning(delta)) and not (self._open_block or "").startswith("tool"):
            events += self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            events.append(self._block_delta({"type": "thinking_delta", "thinking": text}))
        if (text := read_text(delta)) and (self._open_block or "").startswith("tool"):
            self._size.add(len(text))
            self._late["content"] += text
        elif text:
            events += self._open("text", {"type": "text", "text": ""})
            events.append(self._block_delta({"type": "text_delta", "text": text}))
        for number, call, piece in self._calls.feed(delta):
            block = f"tool {number}"
            if self._open_block != block and (self._open_block or "").startswith("tool"):
                continue  # sent when the open call is complete, which only the end of the stream shows
            if self._open_block != block:
                call.block_started = True
                events += self._open(block, call.content_block)
                piece = call.arguments  # noqa: PLW2901 - includes what arrived before the block was open
            events += self._arguments(piece)
        return events

    def _open(self, block: str, content_block: Json) -> list[Json]:
        """Open a block, unless it is open; any other open block is closed."""
        if self._open_block == block:
            return []
        events = self._close()
        self._open_block = block
        self._index += 1
        return [
            *events,
            {"type": "content_block_start", "index": self._index, "content_block": content_block},
        ]

    def _close(self) -> list[Json]:
        if self._open_block is None:
            return []
        self._open_block = None
        return [{"type": "content_block_stop", "index": self._index}]

    def _arguments(self, text: str) -> list[Json]:
        return [self._block_delta({"type": "input_json_delta", "partial_json": text})] if text else []

    def _block_delta(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _error(self, error: Any) -> list[Json]:
        self.is_complete = self.has_failed = True
        members = error if isinstance(error, dict) else {"message": str(error)}
        code = members.get("code")
        kind = _ERROR_TYPES.get(code, "api_error") if isinstance(code, int) else "api_error"
        message = members.get("message") or "the provider failed"
        return [{"type": "error", "error": {"type": kind, "message": message}}]

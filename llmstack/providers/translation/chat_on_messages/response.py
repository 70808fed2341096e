"""Translate a whole response of the Messages API to a chat completion."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmstack.providers.translation.usage import read_messages_usage, write_chat_usage

if TYPE_CHECKING:
    from llmstack.providers.translation.base import Json

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def translate_response(body: Json, *, now: int) -> Json:
    """Translate a whole response.

    Args:
        body: of the Messages API.
        now: seconds since the epoch, for the completion's `created`.
    """
    blocks = body.get("content") or []
    message: Json = {
        "role": "assistant",
        "content": "".join(block["text"] for block in blocks if block["type"] == "text") or None,
    }
    if reasoning := "".join(block["thinking"] for block in blocks if block["type"] == "thinking"):
        message["reasoning_content"] = reasoning
    calls = [
        make_tool_call(block["id"], block["name"], block["input"])
        for block in blocks
        if block["type"] == "tool_use"
    ]
    if calls:
        message["tool_calls"] = calls
    reason = FINISH_REASONS.get(body.get("stop_reason") or "", "stop")
    return {
        "id": body.get("id", ""),
        "object": "chat.completion",
        "created": now,
        "model": body.get("model", ""),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": write_chat_usage(read_messages_usage(body.get("usage") or {})),
    }


def make_tool_call(call_id: str, name: str, arguments: Any) -> Json:
    """Return a tool call of a chat completion, whose arguments are JSON text."""
    text = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}

"""Translate a whole chat completion to a response of the Messages API."""

from __future__ import annotations

from llmstack.providers.translation.base import Json, parse_arguments
from llmstack.providers.translation.completions import read_finish_reason, read_reasoning, read_text
from llmstack.providers.translation.usage import Tokens, read_chat_usage, write_messages_usage

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def translate_response(body: Json) -> Json:
    """Translate a whole response."""
    choice = body["choices"][0]
    message = choice["message"]
    content: list[Json] = []
    if text := read_reasoning(message):
        content.append({"type": "thinking", "thinking": text, "signature": ""})
    if text := read_text(message):
        content.append({"type": "text", "text": text})
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = parse_arguments(function.get("arguments"))
        content.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments})
    reason = stop_reason(read_finish_reason(choice), has_tool_calls=bool(message.get("tool_calls")))
    return make_message(body, content, reason, read_chat_usage(body.get("usage")) or Tokens())


def make_message(body: Json, content: list[Json], reason: str | None, tokens: Tokens) -> Json:
    """Return a message of the Messages API.

    Args:
        body: the chat completion or one of its chunks, for id and model.
        content: the content blocks.
        reason: the `stop_reason`; None while the message is being streamed.
        tokens: the usage.
    """
    return {
        "id": f"msg_{body.get('id', '')}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", ""),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": write_messages_usage(tokens),
    }


def stop_reason(finish_reason: str | None, *, has_tool_calls: bool) -> str:
    """Return the `stop_reason` for a finish reason.

    Some servers say `stop` after tool calls, and clients would not run the tools then.
    """
    reason = _STOP_REASONS.get(finish_reason or "", "end_turn")
    return "tool_use" if reason == "end_turn" and has_tool_calls else reason

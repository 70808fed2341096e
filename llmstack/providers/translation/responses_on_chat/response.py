"""Translate a whole chat completion to a response of the Responses API, and make its items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.providers.translation.base import Json, parse_arguments
from llmstack.providers.translation.completions import read_finish_reason, read_reasoning, read_text
from llmstack.providers.translation.usage import Tokens, read_chat_usage, write_responses_usage

if TYPE_CHECKING:
    from llmstack.providers.translation.responses_on_chat.tools import ToolNames

_INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def translate_response(body: Json, names: ToolNames) -> Json:
    """Translate a whole response.

    Args:
        body: a chat completion.
        names: how the tools of the request were renamed.
    """
    choice = body["choices"][0]
    message, completion_id = choice["message"], str(body.get("id", ""))
    output: list[Json] = []
    if text := read_reasoning(message):
        output.append(make_reasoning_item(f"rs_{completion_id}", text))
    if text := read_text(message):
        output.append(make_message_item(f"msg_{completion_id}", text))
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = function.get("arguments") or "{}"
        output.append(make_call_item(call["id"], function["name"], arguments, names))
    tokens = read_chat_usage(body.get("usage")) or Tokens()
    return end_response(start_response(completion_id, body), output, read_finish_reason(choice), tokens)


def start_response(completion_id: str, body: Json) -> Json:
    """Return a response that has no output yet.

    Args:
        completion_id: the chat completion's id.
        body: the chat completion, or its first chunk.
    """
    return {
        "id": f"resp_{completion_id}",
        "object": "response",
        "created_at": body.get("created", 0),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": body.get("model", ""),
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
    }


def end_response(response: Json, output: list[Json], finish_reason: str | None, tokens: Tokens) -> Json:
    """Return a started response with its output, status and usage."""
    incomplete_reason = _INCOMPLETE_REASONS.get(finish_reason or "")
    return {
        **response,
        "status": "incomplete" if incomplete_reason else "completed",
        "incomplete_details": {"reason": incomplete_reason} if incomplete_reason else None,
        "output": output,
        "usage": write_responses_usage(tokens),
    }


def make_message_item(item_id: str, text: str, status: str = "completed") -> Json:
    """Return an output item with the model's text."""
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [make_text_part(text)] if status == "completed" else [],
    }


def make_text_part(text: str) -> Json:
    """Return a content part of a message item."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def make_reasoning_item(item_id: str, text: str) -> Json:
    """Return an output item with the model's reasoning."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": item_id, "type": "reasoning", "summary": [], "content": content, "encrypted_content": None}


def make_call_item(
    call_id: str, name: str, arguments: str, names: ToolNames, status: str = "completed"
) -> Json:
    """Return an output item with a tool call, under the tool's name and type in the request."""
    if name in names.custom:
        text = parse_arguments(arguments).get("input", arguments)
        members: Json = {"type": "custom_tool_call", "name": name, "input": text if arguments else ""}
    else:
        namespace, tool = names.namespaces.get(name, (None, name))
        members = {"type": "function_call", "name": tool, "arguments": arguments}
        if namespace is not None:
            members["namespace"] = namespace
    return {"id": f"fc_{call_id}", "call_id": call_id, "status": status, **members}

"""A chat completion's whole answer as a response of OpenAI's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.providers.translation.base import Json, Tokens, arguments, chat_tokens
from llmstack.providers.translation.chunks import finish, said, thought

if TYPE_CHECKING:
    from llmstack.providers.translation.responses_on_chat.request import ToolNames

_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


def answer(body: Json, names: ToolNames) -> Json:
    """Translate a whole answer."""
    choice = body["choices"][0]
    message, given = choice["message"], str(body.get("id", ""))
    output: list[Json] = []
    if text := thought(message):
        output.append(reasoning_item(f"rs_{given}", text))
    if text := said(message):
        output.append(message_item(f"msg_{given}", text))
    for call in message.get("tool_calls") or ():
        function = call["function"]
        output.append(call_item(call["id"], function["name"], function.get("arguments") or "{}", names))
    tokens = chat_tokens(body.get("usage")) or Tokens()
    return finished(shell(given, body), output, finish(choice), tokens)


def shell(given: str, chunk: Json) -> Json:
    """Return a response that has no output yet.

    Args:
        given: the chat completion's id.
        chunk: the answer, or its first chunk.
    """
    return {
        "id": f"resp_{given}",
        "object": "response",
        "created_at": chunk.get("created", 0),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": chunk.get("model", ""),
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


def finished(response: Json, output: list[Json], reason: str | None, tokens: Tokens) -> Json:
    """Return the response with all it is to hold."""
    cut = _CUT.get(reason or "")
    return {
        **response,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": cut} if cut else None,
        "output": output,
        "usage": {
            "input_tokens": tokens.prompt,
            "input_tokens_details": {"cached_tokens": tokens.cached},
            "output_tokens": tokens.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens.prompt + tokens.completion,
        },
    }


def message_item(name: str, text: str, status: str = "completed") -> Json:
    """Return what was said."""
    return {
        "id": name,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [text_part(text)] if status == "completed" else [],
    }


def text_part(text: str) -> Json:
    """Return a part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def reasoning_item(name: str, text: str) -> Json:
    """Return what was thought."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": name, "type": "reasoning", "summary": [], "content": content, "encrypted_content": None}


def call_item(call_id: str, name: str, given: str, names: ToolNames, status: str = "completed") -> Json:
    """Return a tool call, under the name and in the form that the client offered the tool in."""
    if name in names.custom:
        text = arguments(given).get("input", given)
        kind: Json = {"type": "custom_tool_call", "name": name, "input": text if given else ""}
    else:
        space, inner = names.spaces.get(name, (None, name))
        kind = {"type": "function_call", "name": inner, "arguments": given}
        if space is not None:
            kind["namespace"] = space
    return {"id": f"fc_{call_id}", "call_id": call_id, "status": status, **kind}

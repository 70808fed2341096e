"""Translate a request of the Responses API to one for a chat completion. Source: platform.openai.com/docs."""

from __future__ import annotations

import json
from typing import Any

from llmstack.providers.translation.base import CannotTranslateError, Json, extract_text
from llmstack.providers.translation.responses_on_chat.tools import (
    ToolNames,
    join_namespace,
    translate_tool_choice,
    translate_tools,
)

_COPIED = ("model", "temperature", "top_p", "stream", "parallel_tool_calls")
_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
_OUTPUTS = frozenset(("function_call_output", "custom_tool_call_output"))
_IGNORED_ITEMS = frozenset(
    ("reasoning", "web_search_call", "file_search_call", "image_generation_call", "compaction")
)


def translate_request(body: Json) -> tuple[Json, ToolNames]:
    """Translate a request; return it, and how its tools were renamed.

    Raises:
        CannotTranslateError: it refers to state that only OpenAI's servers store.
    """
    for name in ("previous_response_id", "conversation", "prompt", "background"):
        if body.get(name):
            raise CannotTranslateError(f"`{name}`: the provider stores nothing, send the whole conversation")
    translated: Json = {
        **{name: body[name] for name in _COPIED if body.get(name) is not None},
        "messages": _messages(body),
        **_settings(body),
    }
    names = ToolNames()
    tools = list(translate_tools(body.get("tools") or (), names))
    if tools:
        translated["tools"] = tools
        if body.get("tool_choice") is not None:
            translated["tool_choice"] = translate_tool_choice(body["tool_choice"])
    else:
        translated.pop("parallel_tool_calls", None)
    return translated, names


def _messages(body: Json) -> list[Json]:
    messages: list[Json] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    items = body.get("input")
    images: list[Json] = []  # of tool outputs; sent after all of them, since outputs must follow their calls
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items or ():
        is_output = item.get("type") in _OUTPUTS
        if images and not is_output:
            messages.append({"role": "user", "content": images})
            images = []
        _add(messages, item)
        if is_output:
            images += _images(item.get("output"))
    if images:
        messages.append({"role": "user", "content": images})
    return messages


def _settings(body: Json) -> Json:
    settings: Json = {
        "max_tokens": body.get("max_output_tokens"),
        "stream_options": {"include_usage": True} if body.get("stream") else None,
        "reasoning_effort": (body.get("reasoning") or {}).get("effort"),
        "response_format": _response_format((body.get("text") or {}).get("format") or {}),
    }
    return {name: value for name, value in settings.items() if value}


def _add(messages: list[Json], item: Json) -> None:
    """Append what one input item becomes to the messages."""
    kind = item.get("type", "message")
    if kind == "message":
        _add_message(messages, item)
    elif kind in {"function_call", "custom_tool_call"}:
        _add_call(messages, item)
    elif kind in _OUTPUTS:
        content = extract_text(item.get("output"))
        messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
    elif kind not in _IGNORED_ITEMS:
        raise CannotTranslateError(f"input: the provider does not support an item of type `{kind}`")


def _add_message(messages: list[Json], item: Json) -> None:
    role = _ROLES.get(item.get("role", ""))
    if role is None:
        raise CannotTranslateError(f"input: expected a role, got `{item.get('role')}`")
    content = item.get("content")
    translated = _user_content(content) if role == "user" else extract_text(content)
    if role == "assistant" and messages and messages[-1].get("tool_calls"):
        # Nothing may stand between calls and their results.
        messages[-1]["content"] = "\n".join(filter(None, (messages[-1]["content"], translated)))
    else:
        messages.append({"role": role, "content": translated})


def _add_call(messages: list[Json], item: Json) -> None:
    namespace = item.get("namespace")
    name = join_namespace(namespace, item["name"]) if namespace else item["name"]
    is_function = item["type"] == "function_call"
    arguments = item["arguments"] if is_function else json.dumps({"input": item["input"]})
    call = {"id": item["call_id"], "type": "function", "function": {"name": name, "arguments": arguments}}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _user_content(content: Any) -> Any:
    """Return text if there is nothing else: small servers do not accept a list."""
    if isinstance(content, str):
        return content
    parts = [_part(part) for part in content or ()]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(part: Json) -> Json:
    kind = part.get("type")
    if kind in {"input_text", "output_text", "text"}:
        return {"type": "text", "text": part["text"]}
    if kind == "input_image" and part.get("image_url"):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_file" and part.get("file_data"):
        name = part.get("filename") or "file"
        return {"type": "file", "file": {"filename": name, "file_data": part["file_data"]}}
    raise CannotTranslateError(f"input: the provider cannot read a part of type `{kind}`")


def _images(output: Any) -> list[Json]:
    """Return the images of a tool's output, which a chat server accepts from the user only."""
    parts = output if isinstance(output, list) else ()
    return [_part(part) for part in parts if part.get("type") == "input_image"]


def _response_format(text_format: Json) -> Json | None:
    if text_format.get("type") == "json_schema":
        schema = {
            key: text_format[key]
            for key in ("name", "schema", "strict", "description")
            if text_format.get(key) is not None
        }
        return {"type": "json_schema", "json_schema": schema}
    return {"type": "json_object"} if text_format.get("type") == "json_object" else None

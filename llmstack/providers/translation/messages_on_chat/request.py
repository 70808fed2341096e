"""Translate a request of the Messages API to one for a chat completion."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmstack.providers.translation.base import CannotTranslateError, Json, extract_text

if TYPE_CHECKING:
    from collections.abc import Iterator

EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_COPIED = ("model", "max_tokens", "temperature", "top_p", "top_k", "stream")


def translate_request(body: Json) -> Json:
    """Translate a request.

    Tools that Anthropic itself runs (web search and the like) are left out, as is the reasoning of earlier
    turns, which is signed for Anthropic's models.

    Raises:
        CannotTranslateError: the request uses a feature that chat completions do not support.
    """
    messages: list[Json] = []
    if system := extract_text(body.get("system")):
        messages.append({"role": "system", "content": system})
    for message in body["messages"]:
        messages += _message(message)
    translated: Json = {name: body[name] for name in _COPIED if body.get(name) is not None}
    translated["messages"] = messages
    if body.get("stream"):
        translated["stream_options"] = {"include_usage": True}
    if body.get("stop_sequences"):
        translated["stop"] = body["stop_sequences"]
    translated |= _tools(body)
    config = body.get("output_config") or {}
    if config.get("effort") in EFFORTS:
        translated["reasoning_effort"] = EFFORTS[config["effort"]]
    output_format = config.get("format") or body.get("output_format") or {}
    if output_format.get("type") == "json_schema":
        schema = {"name": "answer", "schema": output_format.get("schema") or {}}
        translated["response_format"] = {"type": "json_schema", "json_schema": schema}
    return translated


def _message(message: Json) -> Iterator[Json]:
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    role = message.get("role")
    if role == "assistant":
        yield from _assistant(blocks)
    elif role == "user":
        yield from _user(blocks)
    elif role == "system":
        yield {"role": "system", "content": extract_text(blocks)}
    else:
        raise CannotTranslateError(f"messages: expected role `user` or `assistant`, got `{role}`")


def _assistant(blocks: list[Json]) -> Iterator[Json]:
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": json.dumps(block["input"], ensure_ascii=False)},
        }
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    text = "".join(block["text"] for block in blocks if block.get("type") == "text")
    if calls:
        yield {"role": "assistant", "content": text or None, "tool_calls": calls}
    elif text:
        yield {"role": "assistant", "content": text}


def _user(blocks: list[Json]) -> Iterator[Json]:
    """Yield tool results first, since they must follow the calls; then the other blocks."""
    other_parts: list[Json] = []
    for block in blocks:
        if block.get("type") != "tool_result":
            continue
        content = block.get("content")
        parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
        other_parts += [part for part in map(_part, parts) if part is not None and part["type"] != "text"]
        text = extract_text(content)
        yield {
            "role": "tool",
            "tool_call_id": block["tool_use_id"],
            "content": f"Error: {text}" if block.get("is_error") else text,
        }
    other_parts += [part for part in map(_part, blocks) if part is not None]
    if other_parts and all(part["type"] == "text" for part in other_parts):
        # As plain text: small servers do not accept a list.
        yield {"role": "user", "content": "\n\n".join(part["text"] for part in other_parts)}
    elif other_parts:
        yield {"role": "user", "content": other_parts}


def _part(block: Json) -> Json | None:
    """Return the message part for a block; None for blocks that become no part, such as tool results."""
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": block["text"]}
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": _url(block["source"], kind)}}
    if kind == "document":
        source = block["source"]
        if source.get("type") == "text":
            return {"type": "text", "text": source["data"]}
        name = block.get("title") or "document.pdf"
        return {"type": "file", "file": {"filename": name, "file_data": _url(source, kind)}}
    if kind == "search_result":
        return {"type": "text", "text": f"{block.get('title', '')}\n{extract_text(block.get('content'))}"}
    return None


def _url(source: Json, kind: str) -> str:
    if source.get("type") == "base64":
        return f"data:{source['media_type']};base64,{source['data']}"
    if source.get("type") == "url":
        return str(source["url"])
    raise CannotTranslateError(
        f"a message holds a {kind} by `{source.get('type')}`: the provider cannot read it"
    )


def _tools(body: Json) -> Json:
    tools = [_tool(tool) for tool in body.get("tools") or () if tool.get("type", "custom") == "custom"]
    if not tools:
        return {}
    translated: Json = {"tools": tools}
    choice = body.get("tool_choice") or {}
    if choice:
        translated["tool_choice"] = _tool_choice(choice)
    if choice.get("disable_parallel_tool_use"):
        translated["parallel_tool_calls"] = False
    return translated


def _tool(tool: Json) -> Json:
    function: Json = {"name": tool["name"], "parameters": tool.get("input_schema") or {"type": "object"}}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _tool_choice(choice: Json) -> Any:
    if choice.get("type") == "tool":
        return {"type": "function", "function": {"name": choice["name"]}}
    return {"any": "required", "none": "none"}.get(str(choice.get("type")), "auto")

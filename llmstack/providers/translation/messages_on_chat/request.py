"""A request of Anthropic's messages as one of a chat completion."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmstack.providers.translation.base import CannotTranslateError, Json, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_SAME = ("model", "max_tokens", "temperature", "top_p", "top_k", "stream")


def request(body: Json) -> Json:
    """Translate a request.

    Tools that Anthropic runs itself (web search and the like) are left out, as are thoughts of earlier turns,
    which are signed for its own models.

    Raises:
        CannotTranslateError: it holds what this API has no word for.
    """
    messages: list[Json] = []
    if system := texts(body.get("system")):
        messages.append({"role": "system", "content": system})
    for message in body["messages"]:
        messages += _message(message)
    translated: Json = {name: body[name] for name in _SAME if body.get(name) is not None}
    translated["messages"] = messages
    if body.get("stream"):
        translated["stream_options"] = {"include_usage": True}
    if body.get("stop_sequences"):
        translated["stop"] = body["stop_sequences"]
    translated |= _tools(body)
    output = body.get("output_config") or {}
    if output.get("effort") in EFFORTS:
        translated["reasoning_effort"] = EFFORTS[output["effort"]]
    form = output.get("format") or body.get("output_format") or {}
    if form.get("type") == "json_schema":
        schema = {"name": "answer", "schema": form.get("schema") or {}}
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
        yield {"role": "system", "content": texts(blocks)}
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
    """Yield tool results first, since they must follow the calls; then what else was said."""
    shown: list[Json] = []
    for block in blocks:
        if block.get("type") != "tool_result":
            continue
        content = block.get("content")
        parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
        shown += [part for part in map(_part, parts) if part is not None and part["type"] != "text"]
        text = texts(content)
        yield {
            "role": "tool",
            "tool_call_id": block["tool_use_id"],
            "content": f"Error: {text}" if block.get("is_error") else text,
        }
    shown += [part for part in map(_part, blocks) if part is not None]
    if shown and all(part["type"] == "text" for part in shown):
        # Plain text, which every server takes; small ones take no list.
        yield {"role": "user", "content": "\n\n".join(part["text"] for part in shown)}
    elif shown:
        yield {"role": "user", "content": shown}


def _part(block: Json) -> Json | None:
    """Return one block as a part of a message; None for one that is said elsewhere."""
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": block["text"]}
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": _address(block["source"], kind)}}
    if kind == "document":
        source = block["source"]
        if source.get("type") == "text":
            return {"type": "text", "text": source["data"]}
        name = block.get("title") or "document.pdf"
        return {"type": "file", "file": {"filename": name, "file_data": _address(source, kind)}}
    if kind == "search_result":
        return {"type": "text", "text": f"{block.get('title', '')}\n{texts(block.get('content'))}"}
    return None


def _address(source: Json, kind: str) -> str:
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
    found: Json = {"tools": tools}
    choice = body.get("tool_choice") or {}
    if choice:
        found["tool_choice"] = _choice(choice)
    if choice.get("disable_parallel_tool_use"):
        found["parallel_tool_calls"] = False
    return found


def _tool(tool: Json) -> Json:
    function: Json = {"name": tool["name"], "parameters": tool.get("input_schema") or {"type": "object"}}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _choice(choice: Json) -> Any:
    if choice.get("type") == "tool":
        return {"type": "function", "function": {"name": choice["name"]}}
    return {"any": "required", "none": "none"}.get(str(choice.get("type")), "auto")

"""Translate a request for a chat completion to the Messages API. Source: platform.claude.com/docs/en/api."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from llmstack.providers.translation.base import (
    CannotTranslateError,
    Json,
    extract_text,
    parse_arguments,
    parse_data_url,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

EFFORTS = {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max"}
JSON_OBJECT_INSTRUCTION = "Answer with one JSON object and nothing else."
_CACHE_CONTROL = {"type": "ephemeral"}
_COPIED = ("temperature", "top_p", "top_k", "stream")
_EMPTY_SCHEMA: Json = {"type": "object", "properties": {}}


def translate_request(body: Json, *, max_tokens: int) -> Json:
    """Translate a request.

    Args:
        body: of a request for a chat completion.
        max_tokens: sent if the client sets no maximum, which the Messages API requires.

    Raises:
        CannotTranslateError: the request uses a feature that the Messages API does not support.
    """
    if body.get("functions"):
        raise CannotTranslateError("`functions` was replaced by `tools`: the provider accepts only those")
    if (body.get("n") or 1) != 1:
        raise CannotTranslateError("`n`: the provider writes one answer at a time")
    system, messages = _messages(body["messages"])
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_object":
        system.append({"type": "text", "text": JSON_OBJECT_INSTRUCTION})
    tools = _tools(body, messages)
    translated: Json = {
        "model": body.get("model"),
        "max_tokens": body.get("max_completion_tokens") or body.get("max_tokens") or max_tokens,
        "messages": messages,
        **{name: body[name] for name in _COPIED if body.get(name) is not None},
        **tools,
        **_output_config(body.get("reasoning_effort"), response_format),
    }
    if system:
        translated["system"] = system
    stop = body.get("stop") or []
    stop_sequences = [text for text in ([stop] if isinstance(stop, str) else stop) if text.strip()]
    if stop_sequences:
        translated["stop_sequences"] = stop_sequences
    if tools:
        _mark_for_cache(system, messages)
    return translated


def _messages(chat: list[Json]) -> tuple[list[Json], list[Json]]:
    """Return system blocks and turns; consecutive messages of one side become one turn."""
    system: list[Json] = []
    turns: list[Json] = []
    for message in chat:
        role = message.get("role")
        if role in {"system", "developer"}:
            if text := extract_text(message.get("content")):
                system.append({"type": "text", "text": text})
            continue
        side = "assistant" if role == "assistant" else "user"
        blocks = list(_assistant(message) if side == "assistant" else _user(message))
        if not blocks:
            continue
        if turns and turns[-1]["role"] == side:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": side, "content": blocks})
    if turns and turns[-1]["role"] == "assistant":
        last = turns[-1]["content"][-1]
        if last["type"] == "text":
            last["text"] = last["text"].rstrip() or "…"  # trailing white space is rejected
    return system, turns


def _assistant(message: Json) -> Iterator[Json]:
    text = extract_text(message.get("content")) or message.get("refusal")
    if text and text.strip():
        yield {"type": "text", "text": text}
    for call in message.get("tool_calls") or ():
        function = call.get("function") or call.get("custom")
        arguments = function.get("arguments", function.get("input"))
        yield {
            "type": "tool_use",
            "id": _valid_id(call["id"]),
            "name": function["name"],
            "input": parse_arguments(arguments),
        }


def _user(message: Json) -> Iterator[Json]:
    content = message.get("content")
    if message.get("role") in {"tool", "function"}:
        blocks = list(_parts(content))
        result: Json = {
            "type": "tool_result",
            "tool_use_id": _valid_id(message.get("tool_call_id") or message.get("name") or ""),
        }
        yield {**result, "content": blocks} if blocks else result
        return
    yield from _parts(content)


def _valid_id(call_id: str) -> str:
    """Return a call's id with the characters that Anthropic accepts: another server may have created it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", call_id)


def _parts(content: Any) -> Iterator[Json]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for part in content or ():
        kind = part.get("type")
        if kind == "text":
            if part["text"].strip():  # blank text is rejected
                yield {"type": "text", "text": part["text"]}
        elif kind == "image_url":
            yield {"type": "image", "source": _source(part["image_url"]["url"])}
        elif kind == "file" and part["file"].get("file_data"):
            yield {"type": "document", "source": _source(part["file"]["file_data"])}
        else:
            raise CannotTranslateError(
                f"a message holds a part of type `{kind}`: the provider does not support it"
            )


def _source(url: str) -> Json:
    data = parse_data_url(url)
    if data is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": data[0], "data": data[1]}


def _tools(body: Json, messages: list[Json]) -> Json:
    """Return the members `tools` and `tool_choice`."""
    tools = [_tool(tool) for tool in body.get("tools") or ()]
    if not tools:
        # Clients ask for titles and summaries without tools, and Anthropic rejects tool calls without them.
        names = {
            block["name"]: None
            for turn in messages
            for block in turn["content"]
            if block["type"] == "tool_use"
        }
        if not names:
            return {}
        tools = [{"name": name, "input_schema": _EMPTY_SCHEMA} for name in names]
        return {"tools": tools, "tool_choice": {"type": "none"}}
    choice = _tool_choice(body.get("tool_choice"))
    if body.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools} if choice == {"type": "auto"} else {"tools": tools, "tool_choice": choice}


def _tool(tool: Json) -> Json:
    if tool.get("type", "function") != "function":
        raise CannotTranslateError(f"a tool has type `{tool['type']}`: the provider supports functions only")
    function = tool["function"]
    translated: Json = {"name": function["name"], "input_schema": function.get("parameters") or _EMPTY_SCHEMA}
    if function.get("description"):
        translated["description"] = function["description"]
    return translated


def _tool_choice(choice: Any) -> Json:
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return {"type": "tool", "name": choice["function"]["name"]}
    return {"type": {"none": "none", "required": "any"}.get(str(choice), "auto")}


def _output_config(effort: str | None, response_format: Json) -> Json:
    output: Json = {}
    if effort in EFFORTS:
        output["effort"] = EFFORTS[effort]
    if response_format.get("type") == "json_schema":
        schema = response_format["json_schema"].get("schema") or {}
        output["format"] = {"type": "json_schema", "schema": schema}
    return {"output_config": output} if output else {}


def _mark_for_cache(system: list[Json], messages: list[Json]) -> None:
    """Mark what an agent's next request will start with: read from the cache it costs a tenth.

    A chat client cannot ask for this: no other API needs it.
    """
    for blocks in (system, messages[-1]["content"] if messages else []):
        if blocks:
            blocks[-1]["cache_control"] = _CACHE_CONTROL

"""A chat completion's request as one of Anthropic's messages. Source: platform.claude.com/docs/en/api."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from llmstack.providers.translation.base import CannotTranslateError, Json, arguments, data_url, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

EFFORTS = {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max"}
ONE_JSON_OBJECT = "Answer with one JSON object and nothing else."
_CACHED = {"type": "ephemeral"}
_SAME = ("temperature", "top_p", "top_k", "stream")
_NO_SCHEMA: Json = {"type": "object", "properties": {}}


def request(body: Json, *, max_tokens: int) -> Json:
    """Translate a request.

    Args:
        body: of a chat completion.
        max_tokens: of the answer, where the client asks for no maximum: this API wants one.

    Raises:
        CannotTranslateError: it holds what this API has no word for.
    """
    if body.get("functions"):
        raise CannotTranslateError("`functions` was replaced by `tools`: the provider takes only those")
    if (body.get("n") or 1) != 1:
        raise CannotTranslateError("`n`: the provider writes one answer at a time")
    system, messages = _messages(body["messages"])
    form = body.get("response_format") or {}
    if form.get("type") == "json_object":
        system.append({"type": "text", "text": ONE_JSON_OBJECT})
    tools = _tools(body, messages)
    translated: Json = {
        "model": body.get("model"),
        "max_tokens": body.get("max_completion_tokens") or body.get("max_tokens") or max_tokens,
        "messages": messages,
        **{name: body[name] for name in _SAME if body.get(name) is not None},
        **tools,
        **_output(body.get("reasoning_effort"), form),
    }
    if system:
        translated["system"] = system
    stop = body.get("stop") or []
    if stop := [text for text in ([stop] if isinstance(stop, str) else stop) if text.strip()]:
        translated["stop_sequences"] = stop
    if tools:
        _mark_for_cache(system, messages)
    return translated


def _messages(chat: list[Json]) -> tuple[list[Json], list[Json]]:
    """Return system blocks and turns; turns of one side that follow each other become one."""
    system: list[Json] = []
    turns: list[Json] = []
    for message in chat:
        role = message.get("role")
        if role in {"system", "developer"}:
            if text := texts(message.get("content")):
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
            last["text"] = last["text"].rstrip() or "…"  # white space at the end is refused
    return system, turns


def _assistant(message: Json) -> Iterator[Json]:
    text = texts(message.get("content")) or message.get("refusal")
    if text and text.strip():
        yield {"type": "text", "text": text}
    for call in message.get("tool_calls") or ():
        function = call.get("function") or call.get("custom")
        given = function.get("arguments", function.get("input"))
        yield {
            "type": "tool_use",
            "id": _name(call["id"]),
            "name": function["name"],
            "input": arguments(given),
        }


def _user(message: Json) -> Iterator[Json]:
    content = message.get("content")
    if message.get("role") in {"tool", "function"}:
        blocks = list(_parts(content))
        result: Json = {
            "type": "tool_result",
            "tool_use_id": _name(message.get("tool_call_id") or message.get("name") or ""),
        }
        yield {**result, "content": blocks} if blocks else result
        return
    yield from _parts(content)


def _name(call_id: str) -> str:
    """Return a call's id as this API takes it: another server may have made it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", call_id)


def _parts(content: Any) -> Iterator[Json]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for part in content or ():
        kind = part.get("type")
        if kind == "text":
            if part["text"].strip():  # blank text is refused
                yield {"type": "text", "text": part["text"]}
        elif kind == "image_url":
            yield {"type": "image", "source": _source(part["image_url"]["url"])}
        elif kind == "file" and part["file"].get("file_data"):
            yield {"type": "document", "source": _source(part["file"]["file_data"])}
        else:
            raise CannotTranslateError(f"a message holds a part of type `{kind}`: the provider takes none")


def _source(url: str) -> Json:
    data = data_url(url)
    if data is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": data[0], "data": data[1]}


def _tools(body: Json, messages: list[Json]) -> Json:
    """Return `tools` and `tool_choice`."""
    tools = [_tool(tool) for tool in body.get("tools") or ()]
    if not tools:
        # A conversation with tool calls in it is refused without tools, and clients send such ones for
        # titles and summaries.
        used = {
            block["name"]: None
            for turn in messages
            for block in turn["content"]
            if block["type"] == "tool_use"
        }
        if not used:
            return {}
        tools = [{"name": name, "input_schema": _NO_SCHEMA} for name in used]
        return {"tools": tools, "tool_choice": {"type": "none"}}
    choice = _choice(body.get("tool_choice"))
    if body.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools} if choice == {"type": "auto"} else {"tools": tools, "tool_choice": choice}


def _tool(tool: Json) -> Json:
    if tool.get("type", "function") != "function":
        raise CannotTranslateError(f"a tool has type `{tool['type']}`: the provider takes functions only")
    function = tool["function"]
    named: Json = {"name": function["name"], "input_schema": function.get("parameters") or _NO_SCHEMA}
    return {**named, "description": function["description"]} if function.get("description") else named


def _choice(choice: Any) -> Json:
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return {"type": "tool", "name": choice["function"]["name"]}
    return {"type": {"none": "none", "required": "any"}.get(str(choice), "auto")}


def _output(effort: str | None, form: Json) -> Json:
    output: Json = {}
    if effort in EFFORTS:
        output["effort"] = EFFORTS[effort]
    if form.get("type") == "json_schema":
        output["format"] = {"type": "json_schema", "schema": form["json_schema"].get("schema") or {}}
    return {"output_config": output} if output else {}


def _mark_for_cache(system: list[Json], messages: list[Json]) -> None:
    """Mark what an agent's next request starts with: read from the cache it costs a tenth.

    Only this API wants it said, so that a chat client cannot.
    """
    for blocks in (system, messages[-1]["content"] if messages else []):
        if blocks:
            blocks[-1]["cache_control"] = _CACHED

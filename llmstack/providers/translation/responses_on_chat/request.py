"""A request of OpenAI's responses as one of a chat completion. Source: platform.openai.com/docs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmstack.providers.translation.base import CannotTranslateError, Json, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

SEPARATOR = "__"  # between a namespace and the name of a tool in it
_SAME = ("model", "temperature", "top_p", "stream", "parallel_tool_calls")
_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
# What the provider itself would run or keep: a chat server has none of it, and the model is not told of it.
_HOSTED = frozenset(
    (
        *("web_search", "web_search_preview", "file_search", "computer_use_preview", "code_interpreter"),
        *("image_generation", "mcp", "tool_search", "local_shell", "shell"),
    )
)
_OUTPUTS = frozenset(("function_call_output", "custom_tool_call_output"))
_LEFT_OUT = frozenset(
    ("reasoning", "web_search_call", "file_search_call", "image_generation_call", "compaction")
)


@dataclass(slots=True)
class ToolNames:
    """How tools were renamed on the way, so that calls come back as the client knows them.

    Attributes:
        custom: tools that take free text; a chat server sees functions with one argument.
        spaces: namespace and name, by the one name that a chat server sees.
    """

    custom: set[str] = field(default_factory=set)
    spaces: dict[str, tuple[str, str]] = field(default_factory=dict)


def request(body: Json) -> tuple[Json, ToolNames]:
    """Translate a request; return also how its tools were renamed.

    Raises:
        CannotTranslateError: it refers to what only OpenAI's servers keep.
    """
    for name in ("previous_response_id", "conversation", "prompt", "background"):
        if body.get(name):
            raise CannotTranslateError(f"`{name}`: the provider keeps nothing, send the whole conversation")
    messages: list[Json] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body.get("input")
    shown: list[Json] = []  # by results of tools, which stand together
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given or ():
        returned = item.get("type") in _OUTPUTS
        if shown and not returned:
            messages.append({"role": "user", "content": shown})
            shown = []
        _add(messages, item)
        if returned:
            shown += _pictures(item.get("output"))
    if shown:
        messages.append({"role": "user", "content": shown})
    translated: Json = {
        **{name: body[name] for name in _SAME if body.get(name) is not None},
        "messages": messages,
        **_settings(body),
    }
    names = ToolNames()
    tools = list(_tools(body.get("tools") or (), names))
    if tools:
        translated["tools"] = tools
        if body.get("tool_choice") is not None:
            translated["tool_choice"] = _choice(body["tool_choice"])
    else:
        translated.pop("parallel_tool_calls", None)
    return translated, names


def _settings(body: Json) -> Json:
    found: Json = {
        "max_tokens": body.get("max_output_tokens"),
        "stream_options": {"include_usage": True} if body.get("stream") else None,
        "reasoning_effort": (body.get("reasoning") or {}).get("effort"),
        "response_format": _form((body.get("text") or {}).get("format") or {}),
    }
    return {name: value for name, value in found.items() if value}


def _add(messages: list[Json], item: Json) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        role = _ROLES.get(item.get("role", ""))
        if role is None:
            raise CannotTranslateError(f"input: expected a role, got `{item.get('role')}`")
        said = {"role": role, "content": _content(item.get("content"), plain=role != "user")}
        if role == "assistant" and messages and messages[-1].get("tool_calls"):
            # Nothing may stand between calls and their results.
            messages[-1]["content"] = "\n".join(filter(None, (messages[-1]["content"], said["content"])))
        else:
            messages.append(said)
    elif kind in {"function_call", "custom_tool_call"}:
        space = item.get("namespace")
        name = f"{space}{SEPARATOR}{item['name']}" if space else item["name"]
        given = item["arguments"] if kind == "function_call" else json.dumps({"input": item["input"]})
        call = {"id": item["call_id"], "type": "function", "function": {"name": name, "arguments": given}}
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": None})
        messages[-1].setdefault("tool_calls", []).append(call)
    elif kind in _OUTPUTS:
        content = _content(item.get("output"), plain=True)
        messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
    elif kind not in _LEFT_OUT:
        raise CannotTranslateError(f"input: the provider has no word for an item of type `{kind}`")


def _content(content: Any, *, plain: bool) -> Any:
    if plain or isinstance(content, str):
        return texts(content)
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


def _pictures(output: Any) -> list[Json]:
    """Return the images of a tool's output, which a chat server takes from the user only."""
    parts = output if isinstance(output, list) else ()
    return [_part(part) for part in parts if part.get("type") == "input_image"]


def _tools(tools: Any, names: ToolNames) -> Iterator[Json]:
    for tool in tools:
        kind = tool.get("type")
        if kind == "function":
            yield _function(tool["name"], tool)
        elif kind == "namespace":
            for inner in tool.get("tools") or ():
                name = f"{tool['name']}{SEPARATOR}{inner['name']}"
                names.spaces[name] = (tool["name"], inner["name"])
                yield _function(name, inner)
        elif kind == "custom":
            names.custom.add(tool["name"])
            schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
            grammar = (tool.get("format") or {}).get("definition")
            about = "\n\n".join(
                filter(None, (tool.get("description"), grammar and f"Grammar of input:\n{grammar}"))
            )
            yield _function(tool["name"], {"description": about, "parameters": schema})
        elif kind not in _HOSTED:
            raise CannotTranslateError(f"tools: the provider has no tools of type `{kind}`")


def _function(name: str, tool: Json) -> Json:
    function: Json = {
        "name": name,
        "parameters": tool.get("parameters") or {"type": "object", "properties": {}},
    }
    for key in ("description", "strict"):
        if tool.get(key):
            function[key] = tool[key]
    return {"type": "function", "function": function}


def _choice(choice: Any) -> Any:
    if isinstance(choice, dict):
        return {"type": "function", "function": {"name": choice["name"]}} if choice.get("name") else "auto"
    return choice


def _form(form: Json) -> Json | None:
    if form.get("type") == "json_schema":
        schema = {
            key: form[key] for key in ("name", "schema", "strict", "description") if form.get(key) is not None
        }
        return {"type": "json_schema", "json_schema": schema}
    return {"type": "json_object"} if form.get("type") == "json_object" else None

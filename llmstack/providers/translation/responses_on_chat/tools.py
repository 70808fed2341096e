"""Translate the tools of a request of the Responses API to functions of a chat completion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmstack.providers.translation.base import CannotTranslateError, Json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NAMESPACE_SEPARATOR = "__"
# Tools that OpenAI's servers run. A chat server has none of them, so the model is not offered them.
_HOSTED_TOOLS = frozenset(
    (
        *("web_search", "web_search_preview", "file_search", "computer_use_preview", "code_interpreter"),
        *("image_generation", "mcp", "tool_search", "local_shell", "shell"),
    )
)


@dataclass(slots=True)
class ToolNames:
    """How the tools of a request were renamed, so that calls return under the client's names.

    Attributes:
        custom: tools with free text as input; a chat server sees functions with one argument.
        namespaces: namespace and name of a tool, by the single name that a chat server sees.
    """

    custom: set[str] = field(default_factory=set)
    namespaces: dict[str, tuple[str, str]] = field(default_factory=dict)


def join_namespace(namespace: str, name: str) -> str:
    """Return the single name of a tool in a namespace."""
    return f"{namespace}{_NAMESPACE_SEPARATOR}{name}"


def translate_tools(tools: Iterable[Json], names: ToolNames) -> Iterator[Json]:
    """Yield the tools as functions.

    Args:
        tools: of the request.
        names: receives the names of custom tools and of tools in namespaces.

    Raises:
        CannotTranslateError: a tool has a type that a chat server does not support.
    """
    for tool in tools:
        kind = tool.get("type")
        if kind == "function":
            yield _make_function(tool["name"], tool)
        elif kind == "namespace":
            for inner in tool.get("tools") or ():
                name = join_namespace(tool["name"], inner["name"])
                names.namespaces[name] = (tool["name"], inner["name"])
                yield _make_function(name, inner)
        elif kind == "custom":
            names.custom.add(tool["name"])
            yield _make_custom_function(tool)
        elif kind not in _HOSTED_TOOLS:
            raise CannotTranslateError(f"tools: the provider does not support tools of type `{kind}`")


def translate_tool_choice(choice: Any) -> Any:
    """Return the `tool_choice` of a chat completion."""
    if isinstance(choice, dict):
        return {"type": "function", "function": {"name": choice["name"]}} if choice.get("name") else "auto"
    return choice


def _make_custom_function(tool: Json) -> Json:
    """Return a function with one argument `input`; a grammar of the input goes into its description."""
    schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    grammar = (tool.get("format") or {}).get("definition")
    paragraphs = (tool.get("description"), grammar and f"Grammar of input:\n{grammar}")
    description = "\n\n".join(filter(None, paragraphs))
    return _make_function(tool["name"], {"description": description, "parameters": schema})


def _make_function(name: str, tool: Json) -> Json:
    function: Json = {
        "name": name,
        "parameters": tool.get("parameters") or {"type": "object", "properties": {}},
    }
    for key in ("description", "strict"):
        if tool.get(key):
            function[key] = tool[key]
    return {"type": "function", "function": function}

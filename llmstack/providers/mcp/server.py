"""Models as tools of an MCP server over stdio."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import mcp_types as types
import msgspec
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from llmstack.errors import LlmstackError
from llmstack.providers.base import MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmstack.providers.base import Result
    from llmstack.providers.model_api import Model

Json = dict[str, Any]
_ARGUMENTS: Json = {
    "prompt": {"type": "string", "description": "What to ask."},
    "messages": {
        "type": "array",
        "items": {"type": "object"},
        "description": "A whole conversation in place of `prompt`: objects with `role` and `content`.",
    },
    "system": {"type": "string", "description": "The system prompt."},
    "max_tokens": {"type": "integer", "minimum": 1, "description": f"Of the answer; {MAX_TOKENS} without."},
    "temperature": {"type": "number", "minimum": 0, "description": "The model's own default without."},
}
_RESULT: Json = {
    "type": "object",
    "properties": {
        "output": {"type": "string"},
        "model": {"type": "string"},
        "provider": {"type": "string"},
        "tokens_used": {
            "type": "object",
            "properties": {"input": {"type": "integer"}, "output": {"type": "integer"}},
        },
        "stop_reason": {"type": "string"},
    },
    "required": ["output", "model", "provider", "tokens_used", "stop_reason"],
}


@dataclass(frozen=True, slots=True)
class ModelTool:
    """One tool: a model, or a provider whose model the caller names.

    Attributes:
        open: returns the model to ask, by the name that the caller gave; empty where none was given.
        model: what the caller may name, in words; None where there is nothing to choose.
    """

    name: str
    description: str
    open: Callable[[str], Model]
    model: str | None = None

    @property
    def schema(self) -> Json:
        """What it takes."""
        named = {"model": {"type": "string", "description": self.model}} if self.model is not None else {}
        return {"type": "object", "properties": {**_ARGUMENTS, **named}}


async def serve(tools: Sequence[ModelTool]) -> None:
    """Serve the tools on standard input and output until the client leaves."""
    server = build(tools)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


def build(tools: Sequence[ModelTool]) -> Server[Any]:
    """Return the server."""
    by_name = {tool.name: tool for tool in tools}

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_listed(tool) for tool in tools])

    async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = by_name.get(params.name)
        if tool is None:
            return _failed(f"no tool is called `{params.name}`; there are {', '.join(by_name)}")
        try:
            return _told(await _ask(tool, params.arguments or {}))
        except LlmstackError as error:
            return _failed(f"{error.message} ({error.hint})" if error.hint else error.message)

    return Server(
        "llmstack", version=version("llmstack-local"), on_list_tools=list_tools, on_call_tool=call_tool
    )


class _Asked(msgspec.Struct):
    """The arguments of a call, which the SDK does not hold against the schema."""

    prompt: str | None = None
    messages: list[Json] | None = None
    model: str | None = None
    system: str | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None


async def _ask(tool: ModelTool, given: Json) -> Result:
    try:
        asked = msgspec.convert(given, _Asked)
    except msgspec.ValidationError as error:
        raise LlmstackError(str(error)) from error
    prompt = asked.messages or asked.prompt
    if not prompt:
        raise LlmstackError("expected `prompt` or `messages`")
    return await tool.open(asked.model or "").acall(
        prompt,
        max_tokens=asked.max_tokens or MAX_TOKENS,
        temperature=asked.temperature,
        system=asked.system,
    )


def _listed(tool: ModelTool) -> types.Tool:
    return types.Tool(
        name=tool.name, description=tool.description, input_schema=tool.schema, output_schema=_RESULT
    )


def _told(result: Result) -> types.CallToolResult:
    text = types.TextContent(type="text", text=result.output)
    return types.CallToolResult(content=[text], structured_content=asdict(result))


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)

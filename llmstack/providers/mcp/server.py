"""Serve models as tools of an MCP server over stdio."""

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
_ARGUMENT_SCHEMAS: Json = {
    "prompt": {"type": "string", "description": "What to ask."},
    "messages": {
        "type": "array",
        "items": {"type": "object"},
        "description": "A conversation, instead of `prompt`: objects with `role` and `content`.",
    },
    "system": {"type": "string", "description": "The system prompt."},
    "max_tokens": {
        "type": "integer",
        "minimum": 1,
        "description": f"Maximum length of the output; {MAX_TOKENS} by default.",
    },
    "temperature": {"type": "number", "minimum": 0, "description": "The model's own by default."},
}
_RESULT_SCHEMA: Json = {
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
    """A tool that calls one model, or one of a provider's models.

    Attributes:
        name: name of the tool.
        description: what it does, for the client's model.
        open_model: returns the model to call, given the name in the call's arguments; empty if there is none.
        model_description: describes the argument `model`; None if the tool has no such argument.
    """

    name: str
    description: str
    open_model: Callable[[str], Model]
    model_description: str | None = None

    @property
    def input_schema(self) -> Json:
        """JSON schema of the arguments."""
        properties = dict(_ARGUMENT_SCHEMAS)
        if self.model_description is not None:
            properties["model"] = {"type": "string", "description": self.model_description}
        return {"type": "object", "properties": properties}


async def serve(tools: Sequence[ModelTool]) -> None:
    """Serve the tools on standard input and output until the client leaves."""
    server = _build_server(tools)
    async with stdio_server() as (read_stream, write_stream):
        await server.run(read_stream, write_stream, server.create_initialization_options())


def _build_server(tools: Sequence[ModelTool]) -> Server[Any]:
    by_name = {tool.name: tool for tool in tools}

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_describe(tool) for tool in tools])

    async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = by_name.get(params.name)
        if tool is None:
            return _make_error(f"no tool is called `{params.name}`; there are {', '.join(by_name)}")
        try:
            return _make_result(await _call(tool, params.arguments or {}))
        except LlmstackError as error:
            return _make_error(f"{error.message} ({error.hint})" if error.hint else error.message)

    return Server(
        "llmstack", version=version("llmstack-local"), on_list_tools=list_tools, on_call_tool=call_tool
    )


class _Arguments(msgspec.Struct):
    """The arguments of a call, which the MCP SDK does not validate against the schema."""

    prompt: str | None = None
    messages: list[Json] | None = None
    model: str | None = None
    system: str | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None


async def _call(tool: ModelTool, members: Json) -> Result:
    try:
        arguments = msgspec.convert(members, _Arguments)
    except msgspec.ValidationError as error:
        raise LlmstackError(str(error)) from error
    prompt = arguments.messages or arguments.prompt
    if not prompt:
        raise LlmstackError("expected `prompt` or `messages`")
    return await tool.open_model(arguments.model or "").acall(
        prompt,
        max_tokens=arguments.max_tokens or MAX_TOKENS,
        temperature=arguments.temperature,
        system=arguments.system,
    )


def _describe(tool: ModelTool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=_RESULT_SCHEMA,
    )


def _make_result(result: Result) -> types.CallToolResult:
    text = types.TextContent(type="text", text=result.output)
    return types.CallToolResult(content=[text], structured_content=asdict(result))


def _make_error(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)

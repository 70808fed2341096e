"""Convert requests to arguments of an MCP server's tool, and the tool's result to a result. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmstack.providers.base import Result, TokensUsed
from llmstack.providers.errors import MalformedResponseError, RejectedError
from llmstack.providers.translation.base import Json, extract_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmstack.providers.base import PromptRequest

PROMPT_ARGUMENTS = ("prompt", "input", "text", "message", "query", "question", "task", "content")
SYSTEM_ARGUMENTS = ("system", "system_prompt", "instructions")
_SYSTEM_ROLES = frozenset(("system", "developer"))
_SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool"}


def build_arguments(schema: Mapping[str, Any], request: PromptRequest, *, model: str, tool: str) -> Json:
    """Return the arguments to call a tool with.

    A tool with an argument `messages` gets the conversation; any other tool gets it as one text.

    Args:
        schema: the tool's input schema.
        request: what to ask.
        model: name of the model, for a tool that lets the caller choose; empty for none.
        tool: name of the tool, for errors.

    Raises:
        RejectedError: the tool has no argument for a prompt.
    """
    properties = schema.get("properties") or {}
    candidates: Json = {"max_tokens": request.max_tokens, **request.optional_parameters}
    if model:
        candidates["model"] = model
    arguments = {name: value for name, value in candidates.items() if name in properties}
    if "messages" in properties:
        return {**arguments, "messages": list(request.messages)}
    system_argument = next((name for name in SYSTEM_ARGUMENTS if name in properties), None)
    system = "\n\n".join(
        extract_text(message.get("content"))
        for message in request.messages
        if message.get("role") in _SYSTEM_ROLES
    )
    prompt = _format_conversation(
        [message for message in request.messages if message.get("role") not in _SYSTEM_ROLES]
    )
    if system_argument is not None and system:
        arguments[system_argument] = system
    elif system:
        prompt = f"{system}\n\n{prompt}"
    return {**arguments, _find_prompt_argument(schema, tool): prompt}


def _find_prompt_argument(schema: Mapping[str, Any], tool: str) -> str:
    properties = schema.get("properties") or {}
    usual_name = next((name for name in PROMPT_ARGUMENTS if name in properties), None)
    if usual_name is not None:
        return usual_name
    required_texts = [
        name for name in schema.get("required") or () if (properties.get(name) or {}).get("type") == "string"
    ]
    if len(required_texts) == 1:
        return str(required_texts[0])
    raise RejectedError(
        f"the tool `{tool}` takes {', '.join(properties) or 'nothing'}: none of it is a prompt",
        hint=f"a model's tool takes `messages`, or one of {', '.join(PROMPT_ARGUMENTS)}",
    )


def _format_conversation(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return a conversation as one text; a single message as it is, several with their speakers."""
    if len(messages) == 1:
        return extract_text(messages[0].get("content"))
    lines = (
        (_SPEAKERS.get(str(message.get("role")), "User"), extract_text(message.get("content")))
        for message in messages
    )
    return "\n\n".join(f"{speaker}: {text}" for speaker, text in lines if text)


def parse_result(tool_result: Any, *, provider: str, model: str, tool: str) -> Result:
    """Parse what a tool returned: a result in llmstack's own format, or any text.

    Args:
        tool_result: an MCP `CallToolResult`.
        provider: for the result.
        model: for a result that names no model.
        tool: name of the tool, for errors.

    Raises:
        RejectedError: the tool reports an error.
        MalformedResponseError: the tool returned no text.
    """
    texts = [block.text for block in tool_result.content if block.type == "text"]
    text = "\n".join(texts)
    if tool_result.is_error:
        raise RejectedError(f"the tool `{tool}` failed: {text or 'it gives no reason'}", provider=provider)
    structured = tool_result.structured_content
    if isinstance(structured, dict) and isinstance(structured.get("output"), str):
        return _read_own_result(structured, provider, model)
    if isinstance(structured, dict) and not texts and isinstance(structured.get("result"), str):
        text = structured["result"]
    elif structured is not None and not texts:
        text = json.dumps(structured, ensure_ascii=False)
    if not text:
        raise MalformedResponseError(f"the tool `{tool}` returned no text", provider=provider)
    return Result(text, model, provider)


def _read_own_result(structured: Json, provider: str, model: str) -> Result:
    """Read the format that `llmstack.providers.mcp.server` writes."""
    tokens = structured.get("tokens_used") or {}
    return Result(
        structured["output"],
        structured.get("model") or model,
        provider,
        TokensUsed(tokens.get("input") or 0, tokens.get("output") or 0),
        structured.get("stop_reason") or "stop",
    )

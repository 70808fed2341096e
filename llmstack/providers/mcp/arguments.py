"""A chat completion as arguments of an MCP server's tool, and the tool's result as an answer. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmstack.providers.base import Result, TokensUsed
from llmstack.providers.errors import MalformedResponseError, RejectedError
from llmstack.providers.translation.base import texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmstack.providers.base import Ask

Json = dict[str, Any]
PROMPTS = ("prompt", "input", "text", "message", "query", "question", "task", "content")
SYSTEMS = ("system", "system_prompt", "instructions")
_SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool"}


def arguments(schema: Mapping[str, Any], ask: Ask, *, model: str, tool: str) -> Json:
    """Return what to call a tool with.

    A tool that takes `messages` gets the conversation; any other gets it as one text.

    Args:
        schema: the tool's input schema.
        ask: what is asked.
        model: its name, for a tool that takes one; empty for none.
        tool: the tool's name, for the error.

    Raises:
        RejectedError: the tool has no argument that a prompt would fit into.
    """
    takes = schema.get("properties") or {}
    given: Json = {"max_tokens": ask.max_tokens, **ask.given}
    if model:
        given["model"] = model
    found = {name: value for name, value in given.items() if name in takes}
    if "messages" in takes:
        return {**found, "messages": list(ask.messages)}
    system = next((name for name in SYSTEMS if name in takes), None)
    told = "\n\n".join(
        texts(m.get("content")) for m in ask.messages if m.get("role") in {"system", "developer"}
    )
    said = conversation([m for m in ask.messages if m.get("role") not in {"system", "developer"}])
    if system is not None and told:
        found[system] = told
    elif told:
        said = f"{told}\n\n{said}"
    return {**found, _prompt_argument(schema, tool): said}


def _prompt_argument(schema: Mapping[str, Any], tool: str) -> str:
    takes = schema.get("properties") or {}
    named = next((name for name in PROMPTS if name in takes), None)
    if named is not None:
        return named
    required = [
        name for name in schema.get("required") or () if (takes.get(name) or {}).get("type") == "string"
    ]
    if len(required) == 1:
        return str(required[0])
    raise RejectedError(
        f"the tool `{tool}` takes {', '.join(takes) or 'nothing'}: none of it is a prompt",
        hint=f"a model's tool takes `messages`, or one of {', '.join(PROMPTS)}",
    )


def conversation(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return a conversation as one text; that of one message is just what it says."""
    if len(messages) == 1:
        return texts(messages[0].get("content"))
    said = ((_SPEAKERS.get(str(m.get("role")), "User"), texts(m.get("content"))) for m in messages)
    return "\n\n".join(f"{speaker}: {text}" for speaker, text in said if text)


def result(answer: Any, *, provider: str, model: str, tool: str) -> Result:
    """Read what a tool returned: our own result where it has that form, else its text.

    Args:
        answer: an MCP `CallToolResult`.
        provider: for the result.
        model: for a result that names none.
        tool: its name, for the error.

    Raises:
        RejectedError: the tool reports an error.
        MalformedResponseError: there is no text in it.
    """
    parts = [block.text for block in answer.content if block.type == "text"]
    text = "\n".join(parts)
    if answer.is_error:
        raise RejectedError(f"the tool `{tool}` failed: {text or 'it does not say why'}", provider=provider)
    said = answer.structured_content
    if isinstance(said, dict) and isinstance(said.get("output"), str):
        tokens = said.get("tokens_used") or {}
        used = TokensUsed(tokens.get("input") or 0, tokens.get("output") or 0)
        return Result(
            said["output"], said.get("model") or model, provider, used, said.get("stop_reason") or "stop"
        )
    if isinstance(said, dict) and not parts and isinstance(said.get("result"), str):
        text = said["result"]
    elif said is not None and not parts:
        text = json.dumps(said, ensure_ascii=False)
    if not text:
        raise MalformedResponseError(f"the tool `{tool}` returned no text", provider=provider)
    return Result(text, model, provider)

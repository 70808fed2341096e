"""A model behind an MCP tool, served as chat completions: bodies in, bodies and events out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmstack.providers.base import MAX_TOKENS, Ask
from llmstack.providers.errors import RejectedError
from llmstack.providers.translation.base import Tokens, chat_usage

if TYPE_CHECKING:
    from llmstack.providers.base import Result


def asked(body: bytes) -> tuple[Ask, bool]:
    """Return what the body of a chat completion asks, and whether it wants events.

    Tools that it offers are left out: a tool that is a model cannot call others.

    Raises:
        RejectedError: it is none.
    """
    try:
        request = json.loads(body)
        messages = request["messages"]
        tokens = request.get("max_completion_tokens") or request.get("max_tokens") or MAX_TOKENS
        ask = Ask(
            [dict(message) for message in messages],
            int(tokens),
            request.get("temperature"),
            request.get("reasoning_effort"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RejectedError("the body is no chat completion") from error
    return ask, bool(request.get("stream"))


def whole(result: Result, *, now: int, given: str) -> bytes:
    """Return an answer as the body of a chat completion.

    Args:
        result: the answer.
        now: seconds since the epoch.
        given: an id for it.
    """
    message = {"role": "assistant", "content": result.output}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": result.stop_reason}
    return _json({**_head(result, now, given), "choices": [choice], "usage": _usage(result)})


def events(result: Result, *, now: int, given: str) -> bytes:
    """Return an answer as the events of a chat completion, usage included; arguments as those of `whole`."""
    head = {**_head(result, now, given), "object": "chat.completion.chunk"}
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": result.output}, None),
        ({}, result.stop_reason),
    ]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    chunks.append({**head, "choices": [], "usage": _usage(result)})
    return b"".join(b"data: " + _json(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def _head(result: Result, now: int, given: str) -> dict[str, Any]:
    model = result.model or result.provider
    return {"id": f"chatcmpl-{given}", "object": "chat.completion", "created": now, "model": model}


def _usage(result: Result) -> dict[str, Any]:
    return chat_usage(Tokens(result.tokens_used.input, result.tokens_used.output))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")

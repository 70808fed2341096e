"""Serve a model behind an MCP tool as chat completions: parse requests, write bodies and events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmstack.providers.base import MAX_TOKENS, PromptRequest
from llmstack.providers.errors import RejectedError
from llmstack.providers.translation.usage import Tokens, write_chat_usage

if TYPE_CHECKING:
    from llmstack.providers.base import Result
    from llmstack.providers.translation.base import Json


def parse_chat_request(body: bytes) -> tuple[PromptRequest, bool]:
    """Return what a request for a chat completion asks, and whether it wants a stream of events.

    Tools that it offers are left out: a model behind an MCP tool cannot call them.

    Raises:
        RejectedError: the body is not a request for a chat completion.
    """
    try:
        members = json.loads(body)
        messages = members["messages"]
        max_tokens = members.get("max_completion_tokens") or members.get("max_tokens") or MAX_TOKENS
        request = PromptRequest(
            [dict(message) for message in messages],
            int(max_tokens),
            members.get("temperature"),
            members.get("reasoning_effort"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RejectedError("the body is no request for a chat completion") from error
    return request, bool(members.get("stream"))


def write_chat_completion(result: Result, *, now: int, completion_id: str) -> bytes:
    """Return a result as the body of a chat completion.

    Args:
        result: the model's result.
        now: seconds since the epoch.
        completion_id: id of the completion, without the prefix `chatcmpl-`.
    """
    message = {"role": "assistant", "content": result.output}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": result.stop_reason}
    return _dump({**_head(result, now, completion_id), "choices": [choice], "usage": _usage(result)})


def write_chat_events(result: Result, *, now: int, completion_id: str) -> bytes:
    """Return a result as the events of a chat completion, usage included.

    Args:
        result: the model's result.
        now: seconds since the epoch.
        completion_id: id of the completion, without the prefix `chatcmpl-`.
    """
    head = {**_head(result, now, completion_id), "object": "chat.completion.chunk"}
    deltas: list[tuple[Json, str | None]] = [
        ({"role": "assistant", "content": result.output}, None),
        ({}, result.stop_reason),
    ]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    chunks.append({**head, "choices": [], "usage": _usage(result)})
    return b"".join(b"data: " + _dump(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def _head(result: Result, now: int, completion_id: str) -> Json:
    model = result.model or result.provider
    return {"id": f"chatcmpl-{completion_id}", "object": "chat.completion", "created": now, "model": model}


def _usage(result: Result) -> Json:
    return write_chat_usage(Tokens(result.tokens_used.input, result.tokens_used.output))


def _dump(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")

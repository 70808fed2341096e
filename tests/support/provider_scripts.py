"""The responses of fake providers in the formats of two APIs; the text of the request selects one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
SECRET_IN_ERROR = "Incorrect API key provided: "


@dataclass
class Script:
    """One response.

    Attributes:
        thinking: reasoning before the text.
        pieces: the text, as it is streamed.
        calls: id, name and arguments of tool calls.
        stop: the finish reason of a chat completion.
        status: HTTP status; an error if it is not 200.
        retry_after: value of the error's `retry-after` header.
        cut: whether a stream ends in the middle.
        breaks: whether a stream ends with an error event.
        usage: token counts.
    """

    thinking: str = ""
    pieces: tuple[str, ...] = ()
    calls: tuple[tuple[str, str, Json], ...] = ()
    stop: str = "stop"
    status: int = 200
    retry_after: str = ""
    cut: bool = False
    breaks: bool = False
    usage: Json = field(default_factory=lambda: {"prompt": 30, "cached": 20, "completion": 7})


def script_for(prompt: str, tools: list[str], *, results: list[str]) -> Script:
    """Return the response to the user's last message."""
    if match := re.search(r"error (\d+)(?: after (\S+))?", prompt):
        return Script(status=int(match[1]), retry_after=match[2] or "")
    if results:
        return Script(pieces=("The tools say: ", ", ".join(results)))
    if "weather" in prompt and tools:
        calls = tuple((f"call_{city}", tools[0], {"city": city}) for city in ("Paris", "Rome"))
        return Script(pieces=("I look.",), calls=calls, stop="tool_calls")
    if "ping" in prompt and tools:
        return Script(calls=(("call_0", tools[-1], {}),), stop="tool_calls")
    if "think" in prompt:
        return Script(thinking="Let me see.", pieces=("Seen",))
    return Script(
        pieces=("You said: ", prompt, "."),
        stop="length" if "long" in prompt else "stop",
        cut="cut" in prompt,
        breaks="break" in prompt,
    )


# Anthropic's messages

_ANTHROPIC_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def anthropic_error(status: int, message: str) -> Json:
    kind = _ANTHROPIC_ERRORS.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def _anthropic_usage(script: Script) -> Json:
    return {
        "input_tokens": script.usage["prompt"] - script.usage["cached"],
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": script.usage["cached"],
        "output_tokens": script.usage["completion"],
    }


def _anthropic_blocks(script: Script) -> list[Json]:
    blocks: list[Json] = []
    if script.thinking:
        blocks.append({"type": "thinking", "thinking": script.thinking, "signature": "c2ln"})
    if script.pieces:
        blocks.append({"type": "text", "text": "".join(script.pieces)})
    blocks += [
        {"type": "tool_use", "id": i, "name": name, "input": arguments} for i, name, arguments in script.calls
    ]
    return blocks


def anthropic_answer(script: Script, model: str) -> Json:
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _anthropic_blocks(script),
        "stop_reason": _ANTHROPIC_STOP[script.stop],
        "stop_sequence": None,
        "usage": _anthropic_usage(script),
    }


def anthropic_events(script: Script, model: str) -> Iterator[bytes]:
    start = {**anthropic_answer(script, model), "content": [], "stop_reason": None}
    start["usage"] = {**start["usage"], "output_tokens": 1}
    yield _event({"type": "message_start", "message": start})
    yield _event({"type": "ping"})
    for index, block in enumerate(_anthropic_blocks(script)):
        yield from _anthropic_block(index, block, script)
        if script.cut:
            return
        if script.breaks:
            yield _event(anthropic_error(529, "Overloaded"))
            return
    delta = {"stop_reason": _ANTHROPIC_STOP[script.stop], "stop_sequence": None}
    usage = {"output_tokens": script.usage["completion"]}
    yield _event({"type": "message_delta", "delta": delta, "usage": usage})
    yield _event({"type": "message_stop"})


def _anthropic_block(index: int, block: Json, script: Script) -> Iterator[bytes]:
    empty: dict[str, Json] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    yield _event(
        {"type": "content_block_start", "index": index, "content_block": {**block, **empty[block["type"]]}}
    )
    deltas: list[Json]
    if block["type"] == "text":
        deltas = [{"type": "text_delta", "text": piece} for piece in script.pieces]
    elif block["type"] == "thinking":
        deltas = [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": "c2ln"},
        ]
    else:
        text = json.dumps(block["input"]) if block["input"] else ""
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", text[:4], text[4:])]
    for delta in deltas:
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
    yield _event({"type": "content_block_stop", "index": index})


def _event(data: Json) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


# OpenAI's chat completions


def openai_error(status: int, message: str) -> Json:
    code = "insufficient_quota" if status == 429 and "quota" in message else None
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def _openai_usage(script: Script) -> Json:
    prompt, completion = script.usage["prompt"], script.usage["completion"]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion + script.usage.get("hidden", 0),
        "prompt_tokens_details": {"cached_tokens": script.usage["cached"]},
    }


def _openai_calls(script: Script) -> list[Json]:
    return [
        {"id": i, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for i, name, arguments in script.calls
    ]


def openai_answer(script: Script, model: str, *, reasoning_key: str = "reasoning_content") -> Json:
    message: Json = {"role": "assistant", "content": "".join(script.pieces) or None, "refusal": None}
    if script.thinking:
        message[reasoning_key] = script.thinking
    if script.calls:
        message["tool_calls"] = _openai_calls(script)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": script.stop}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
    return {**head, "choices": [choice], "usage": _openai_usage(script)}


def openai_events(
    script: Script,
    model: str,
    *,
    usage: bool,
    sends_whole_calls: bool = False,
    reasoning_key: str = "reasoning_content",
) -> Iterator[bytes]:
    """Yield the chunks.

    Args:
        script: the response.
        model: name of the model.
        usage: whether a last chunk has the usage.
        sends_whole_calls: send each tool call in one piece and without an index, as Google does.
        reasoning_key: member of a delta that holds the reasoning.
    """
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}

    def chunk(delta: Json, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode()

    yield chunk({"role": "assistant", "content": ""})
    if script.thinking:
        yield chunk({reasoning_key: script.thinking})
    for piece in script.pieces:
        yield chunk({"content": piece})
    if script.cut:
        return
    if script.breaks:
        yield f"data: {json.dumps(openai_error(503, 'Overloaded'))}\n\n".encode()
        return
    for number, call in enumerate(_openai_calls(script)):
        if sends_whole_calls:
            yield chunk({"tool_calls": [call]})
            continue
        text = call["function"]["arguments"]
        first = {**call, "index": number, "function": {**call["function"], "arguments": ""}}
        yield chunk({"tool_calls": [first]})
        for part in (text[:3], text[3:]):
            yield chunk({"tool_calls": [{"index": number, "function": {"arguments": part}}]})
    yield chunk({}, script.stop)
    if usage:
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': _openai_usage(script)})}\n\n".encode()
    yield b"data: [DONE]\n\n"

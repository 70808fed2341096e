"""Google's own API, as its SDK uses it, for the scripts of the fake providers.

Our requests go to Google's OpenAI-compatible endpoint, which Google's SDK does not use. Both serve the same
models, so our translation has to send and read there what the SDK sends and reads here.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.genai import types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.provider_scripts import Script

Json = dict[str, Any]
THOUGHT_TOKENS = 11  # of a response with reasoning; not counted as tokens of its text
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
_PARTS = frozenset(("text", "inlineData", "functionCall", "functionResponse", "thoughtSignature"))


def error(status: int, message: str, retry_after: str) -> Json:
    error: Json = {"code": status, "message": message, "status": _STATUS.get(status, "UNAVAILABLE")}
    if retry_after:  # Google's API sends no `retry-after` header
        error["details"] = [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after}s"},
        ]
    return {"error": error}


def usage(script: Script) -> Json:
    thoughts = THOUGHT_TOKENS if script.thinking else 0
    prompt, completion = script.usage["prompt"], script.usage["completion"]
    return {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": script.usage["cached"],
        "candidatesTokenCount": completion,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + completion + thoughts,
    }


def _piece(parts: list[Json], script: Script, model: str, *, last: bool) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    if last:
        candidate["finishReason"] = _FINISH[script.stop]
    return {
        "candidates": [candidate],
        "usageMetadata": usage(script),
        "modelVersion": model,
        "responseId": "r",
    }


def _parts(script: Script) -> list[Json]:
    calls: list[Json] = [
        {"functionCall": {"id": i, "name": name, "args": arguments}} for i, name, arguments in script.calls
    ]
    if calls:
        calls[0] = {**calls[0], "thoughtSignature": "c2ln"}
    return [*({"text": piece} for piece in script.pieces), *calls]


def answer(script: Script, model: str) -> Json:
    return _piece(_parts(script), script, model, last=True)


def events(script: Script, model: str) -> Iterator[bytes]:
    parts = _parts(script)
    for number, part in enumerate(parts, 1):
        piece = _piece([part], script, model, last=number == len(parts) and not script.cut)
        yield f"data: {json.dumps(piece)}\r\n\r\n".encode()


@dataclass(frozen=True)
class NeutralRequest:
    """A request, independent of the API it was sent in.

    Attributes:
        system: the system prompt.
        turns: role and parts of each turn; a part is a kind and its contents.
        tools: name, description and schema of each.
        settings: sampling and other parameters.
    """

    system: str
    turns: list[tuple[str, list[tuple[Any, ...]]]]
    tools: list[tuple[str, str, Json]]
    settings: Json


def read_native_request(body: Json) -> NeutralRequest:
    """Read a request of Google's SDK; pydantic rejects what Google's types do not have."""
    system = types.Content.model_validate(body.get("systemInstruction", {"parts": []}))
    turns = []
    for content in body["contents"]:
        assert all(part.keys() <= _PARTS for part in content["parts"])
        turn = types.Content.model_validate(content)
        role = "assistant" if turn.role == "model" else "user"
        turns.append((role, [_read_native_part(part) for part in turn.parts or ()]))
    declarations = [each for tool in body.get("tools", ()) for each in tool["functionDeclarations"]]
    tools = [(each["name"], each["description"], each["parameters_json_schema"]) for each in declarations]
    generation = types.GenerationConfig.model_validate(body.get("generationConfig", {}))
    config = body.get("toolConfig", {}).get("functionCallingConfig", {})
    settings = {
        "max_tokens": generation.max_output_tokens,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "stop": generation.stop_sequences,
        "schema": body.get("generationConfig", {}).get("responseJsonSchema"),
        "must_call": config.get("mode") == "ANY",
    }
    return NeutralRequest("".join(part.text or "" for part in system.parts or ()), turns, tools, settings)


def _read_native_part(part: types.Part) -> tuple[Any, ...]:
    if part.inline_data is not None:
        return ("image", part.inline_data.mime_type, part.inline_data.data)
    if part.function_call is not None:
        return ("call", part.function_call.id, part.function_call.name, part.function_call.args)
    if part.function_response is not None:
        return ("result", part.function_response.id, (part.function_response.response or {})["result"])
    return ("text", part.text)


def read_chat_request(body: Json) -> NeutralRequest:
    """Read a request for the OpenAI-compatible endpoint."""
    system = [message for message in body["messages"] if message["role"] == "system"]
    turns: list[tuple[str, list[tuple[Any, ...]]]] = []
    for message in (message for message in body["messages"] if message["role"] != "system"):
        role = {"tool": "user"}.get(message["role"], message["role"])
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        turns[-1][1].extend(_read_chat_parts(message))
    functions = [tool["function"] for tool in body.get("tools", ())]
    settings = {
        "max_tokens": body.get("max_tokens"),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "stop": body.get("stop"),
        "schema": body.get("response_format", {}).get("json_schema", {}).get("schema"),
        "must_call": body.get("tool_choice") == "required",
    }
    tools = [(each["name"], each["description"], each["parameters"]) for each in functions]
    return NeutralRequest("".join(message["content"] for message in system), turns, tools, settings)


def _read_chat_parts(message: Json) -> Iterator[tuple[Any, ...]]:
    content = message["content"]
    if message["role"] == "tool":
        yield ("result", message["tool_call_id"], content)
        return
    parts: list[Json] = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    for part in parts:
        if part["type"] == "image_url":
            kind, _, data = part["image_url"]["url"].removeprefix("data:").partition(";base64,")
            yield ("image", kind, base64.b64decode(data))
        else:
            yield ("text", part["text"])
    for call in message.get("tool_calls", ()):
        yield ("call", call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))

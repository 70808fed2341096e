"""Ollama's own API, for the scripts of the fake providers. Source: docs.ollama.com/api/chat."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.provider_scripts import Script

Json = dict[str, Any]
PATH = "/api/chat"


def _chunk(script: Script, model: str, message: Json, *, done: bool) -> Json:
    chunk: Json = {
        "model": model,
        "created_at": "2026-11-21T12:00:00Z",
        "message": {"role": "assistant", "content": "", **message},
        "done": done,
    }
    if done:
        chunk["done_reason"] = "length" if script.stop == "length" else "stop"
        chunk["prompt_eval_count"] = script.usage["prompt"]
        chunk["eval_count"] = script.usage["completion"]
    return chunk


def _pieces(script: Script) -> Iterator[Json]:
    if script.thinking:
        yield {"thinking": script.thinking}
    for piece in script.pieces:
        yield {"content": piece}
    if script.calls:
        yield {
            "tool_calls": [
                {"id": i, "function": {"index": number, "name": name, "arguments": arguments}}
                for number, (i, name, arguments) in enumerate(script.calls)
            ]
        }


def answer(script: Script, model: str) -> Json:
    message: Json = {}
    for piece in _pieces(script):
        for key, value in piece.items():
            message[key] = message[key] + value if key in message else value
    return _chunk(script, model, message, done=True)


def lines(script: Script, model: str) -> Iterator[bytes]:
    for piece in _pieces(script):
        yield json.dumps(_chunk(script, model, piece, done=False)).encode() + b"\n"
    if script.breaks:
        yield json.dumps({"error": "Overloaded"}).encode() + b"\n"
    elif not script.cut:
        yield json.dumps(_chunk(script, model, {}, done=True)).encode() + b"\n"

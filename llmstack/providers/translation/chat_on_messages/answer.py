"""Anthropic's answers, whole and as events, as those of a chat completion."""

from __future__ import annotations

import json
from typing import Any

from llmstack.providers.translation.base import Json, Tokens, chat_usage

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def tokens_of(usage: Json) -> Tokens:
    """Read Anthropic's `usage`: there, input tokens are those that no cache was involved in."""
    cached = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    return Tokens(
        (usage.get("input_tokens") or 0) + cached + written, usage.get("output_tokens") or 0, cached
    )


def answer(body: Json, *, now: int) -> Json:
    """Translate a whole answer."""
    blocks = body.get("content") or []
    message: Json = {
        "role": "assistant",
        "content": "".join(block["text"] for block in blocks if block["type"] == "text") or None,
    }
    if thought := "".join(block["thinking"] for block in blocks if block["type"] == "thinking"):
        message["reasoning_content"] = thought
    calls = [
        _call(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"
    ]
    if calls:
        message["tool_calls"] = calls
    reason = FINISH.get(body.get("stop_reason") or "", "stop")
    return {
        "id": body.get("id", ""),
        "object": "chat.completion",
        "created": now,
        "model": body.get("model", ""),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": chat_usage(tokens_of(body.get("usage") or {})),
    }


def _call(name_id: str, name: str, given: Any) -> Json:
    written = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    return {"id": name_id, "type": "function", "function": {"name": name, "arguments": written}}


class Stream:
    """Anthropic's events as chunks of a chat completion.

    Args:
        now: seconds since the epoch.
        usage_wanted: the client asked for a last chunk with the tokens.
    """

    def __init__(self, *, now: int, usage_wanted: bool) -> None:
        self.complete = False
        self.failed = False
        self._now = now
        self._usage_wanted = usage_wanted
        self._usage: Json = {}
        self._id, self._model = "", ""
        self._calls: dict[int, int] = {}  # number of the tool call, by that of its block
        self._empty: set[int] = set()  # blocks of calls that have no arguments yet

    def event(self, data: Json) -> list[Json]:
        """Return what one event becomes; unknown ones become nothing, as Anthropic asks for."""
        match data.get("type"):
            case "message_start":
                return self._message_start(data)
            case "content_block_start":
                return self._content_block_start(data)
            case "content_block_delta":
                return self._content_block_delta(data)
            case "content_block_stop":
                return self._content_block_stop(data)
            case "message_delta":
                return self._message_delta(data)
            case "message_stop":
                return self._message_stop(data)
            case "error":
                return self._error(data)
        return []

    def end(self) -> list[Json]:
        """Return nothing: the end is an event of its own."""
        return []

    def _message_start(self, data: Json) -> list[Json]:
        message = data["message"]
        self._id, self._model = message.get("id", ""), message.get("model", "")
        self._usage.update(message.get("usage") or {})
        return [self._chunk({"role": "assistant", "content": ""})]

    def _content_block_start(self, data: Json) -> list[Json]:
        block, index = data["content_block"], data["index"]
        if block["type"] == "text" and block.get("text"):
            return [self._chunk({"content": block["text"]})]
        if block["type"] != "tool_use":
            return []
        number = self._calls[index] = len(self._calls)
        given = block.get("input")
        if not given:
            self._empty.add(index)
        call = _call(block["id"], block["name"], given)
        call["function"]["arguments"] = call["function"]["arguments"] if given else ""
        return [self._chunk({"tool_calls": [{"index": number, **call}]})]

    def _content_block_delta(self, data: Json) -> list[Json]:
        delta = data["delta"]
        if delta["type"] == "text_delta":
            return [self._chunk({"content": delta["text"]})]
        if delta["type"] == "thinking_delta":
            return [self._chunk({"reasoning_content": delta["thinking"]})]
        if delta["type"] == "input_json_delta" and data["index"] in self._calls and delta["partial_json"]:
            self._empty.discard(data["index"])
            return [self._arguments(data["index"], delta["partial_json"])]
        return []

    def _content_block_stop(self, data: Json) -> list[Json]:
        if data["index"] not in self._empty:
            return []
        self._empty.discard(data["index"])
        return [self._arguments(data["index"], "{}")]

    def _message_delta(self, data: Json) -> list[Json]:
        said = data.get("usage") or {}
        self._usage.update({name: value for name, value in said.items() if value is not None})
        reason = data["delta"].get("stop_reason")
        return [self._chunk({}, FINISH.get(reason, "stop"))] if reason else []

    def _message_stop(self, _data: Json) -> list[Json]:
        self.complete = True
        if not self._usage_wanted:
            return []
        chunk = self._chunk({})
        return [{**chunk, "choices": [], "usage": chat_usage(tokens_of(self._usage))}]

    def _error(self, data: Json) -> list[Json]:
        self.complete = self.failed = True
        error = data.get("error") or {}
        kind = error.get("type", "server_error")
        return [{"error": {"message": error.get("message", ""), "type": kind, "param": None, "code": kind}}]

    def _arguments(self, index: int, text: str) -> Json:
        return self._chunk({"tool_calls": [{"index": self._calls[index], "function": {"arguments": text}}]})

    def _chunk(self, delta: Json, finish: str | None = None) -> Json:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._now,
            "model": self._model,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        }

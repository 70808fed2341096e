"""Translate events of the Messages API to chunks of a chat completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.providers.translation.chat_on_messages.response import FINISH_REASONS, make_tool_call
from llmstack.providers.translation.usage import read_messages_usage, write_chat_usage

if TYPE_CHECKING:
    from llmstack.providers.translation.base import Json


class MessagesStreamToChat:
    """Translates events of the Messages API to chunks of a chat completion.

    Args:
        now: seconds since the epoch, for the chunks' `created`.
        include_usage: whether the client asked for a last chunk with the usage.
    """

    def __init__(self, *, now: int, include_usage: bool) -> None:
        self.is_complete = False
        self.has_failed = False
        self._now = now
        self._include_usage = include_usage
        self._usage: Json = {}
        self._id, self._model = "", ""
        self._call_numbers: dict[int, int] = {}  # number of a tool call, by the index of its block
        self._without_arguments: set[int] = set()  # indexes of tool calls' blocks

    def translate(self, event: Json) -> list[Json]:
        """Return the chunks that one event becomes; none for unknown events, as Anthropic asks for."""
        match event.get("type"):
            case "message_start":
                return self._message_start(event)
            case "content_block_start":
                return self._content_block_start(event)
            case "content_block_delta":
                return self._content_block_delta(event)
            case "content_block_stop":
                return self._content_block_stop(event)
            case "message_delta":
                return self._message_delta(event)
            case "message_stop":
                return self._message_stop()
            case "error":
                return self._error(event)
        return []

    def finish(self) -> list[Json]:
        """Return nothing: `message_stop` has ended the response."""
        return []

    def _message_start(self, event: Json) -> list[Json]:
        message = event["message"]
        self._id, self._model = message.get("id", ""), message.get("model", "")
        self._usage.update(message.get("usage") or {})
        return [self._chunk({"role": "assistant", "content": ""})]

    def _content_block_start(self, event: Json) -> list[Json]:
        block, index = event["content_block"], event["index"]
        if block["type"] == "text" and block.get("text"):
            return [self._chunk({"content": block["text"]})]
        if block["type"] != "tool_use":
            return []
        number = self._call_numbers[index] = len(self._call_numbers)
        arguments = block.get("input")
        call = make_tool_call(block["id"], block["name"], arguments)
        if not arguments:
            self._without_arguments.add(index)
            call["function"]["arguments"] = ""
        return [self._chunk({"tool_calls": [{"index": number, **call}]})]

    def _content_block_delta(self, event: Json) -> list[Json]:
        delta = event["delta"]
        if delta["type"] == "text_delta":
            return [self._chunk({"content": delta["text"]})]
        if delta["type"] == "thinking_delta":
            return [self._chunk({"reasoning_content": delta["thinking"]})]
        if (
            delta["type"] == "input_json_delta"
            and event["index"] in self._call_numbers
            and delta["partial_json"]
        ):
            self._without_arguments.discard(event["index"])
            return [self._arguments_chunk(event["index"], delta["partial_json"])]
        return []

    def _content_block_stop(self, event: Json) -> list[Json]:
        if event["index"] not in self._without_arguments:
            return []
        self._without_arguments.discard(event["index"])
        return [self._arguments_chunk(event["index"], "{}")]

    def _message_delta(self, event: Json) -> list[Json]:
        usage = event.get("usage") or {}
        self._usage.update({name: value for name, value in usage.items() if value is not None})
        reason = event["delta"].get("stop_reason")
        return [self._chunk({}, FINISH_REASONS.get(reason, "stop"))] if reason else []

    def _message_stop(self) -> list[Json]:
        self.is_complete = True
        if not self._include_usage:
            return []
        usage = write_chat_usage(read_messages_usage(self._usage))
        return [{**self._chunk({}), "choices": [], "usage": usage}]

    def _error(self, event: Json) -> list[Json]:
        self.is_complete = self.has_failed = True
        error = event.get("error") or {}
        kind = error.get("type", "server_error")
        return [{"error": {"message": error.get("message", ""), "type": kind, "param": None, "code": kind}}]

    def _arguments_chunk(self, index: int, text: str) -> Json:
        call = {"index": self._call_numbers[index], "function": {"arguments": text}}
        return self._chunk({"tool_calls": [call]})

    def _chunk(self, delta: Json, finish_reason: str | None = None) -> Json:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._now,
            "model": self._model,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
        }

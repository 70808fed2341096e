"""Translate chunks of a chat completion to events of the Responses API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmstack.providers.translation.completions import (
    KeptSize,
    ToolCalls,
    read_finish_reason,
    read_reasoning,
    read_text,
)
from llmstack.providers.translation.responses_on_chat.response import (
    end_response,
    make_call_item,
    make_message_item,
    make_reasoning_item,
    make_text_part,
    start_response,
)
from llmstack.providers.translation.usage import Tokens, read_chat_usage

if TYPE_CHECKING:
    from llmstack.providers.translation.base import Json
    from llmstack.providers.translation.completions import ToolCall
    from llmstack.providers.translation.responses_on_chat.tools import ToolNames


class ChatStreamToResponses:
    """Translates chunks of a chat completion to events of the Responses API.

    Reasoning, text and each tool call are output items, identified by their index. Calls may be open in
    parallel, so their arguments are passed on as they arrive.

    Args:
        names: how the tools of the request were renamed.
    """

    def __init__(self, names: ToolNames) -> None:
        self.is_complete = False
        self.has_failed = False
        self._tokens: Tokens | None = None
        self._names = names
        self._completion_id = ""
        self._response: Json = {}
        self._output: list[Json] = []  # items, by their output index
        self._text = ""  # of the open item
        self._open_item: str | None = None  # `reasoning` or `message`
        self._calls = ToolCalls()
        self._size = KeptSize()
        self._call_indexes: dict[int, int] = {}  # output index of a call's item, by the call's number
        self._finish_reason: str | None = None
        self._sequence_number = -1

    def translate(self, event: Json) -> list[Json]:
        """Return the events that one chunk becomes."""
        if event.get("error"):
            return self._error(event["error"])
        events: list[Json] = []
        if not self._response:
            self._completion_id = str(event.get("id", ""))
            self._response = start_response(self._completion_id, event)
            kinds = ("response.created", "response.in_progress")
            events += [self._event(kind, response=self._response) for kind in kinds]
        self._tokens = read_chat_usage(event.get("usage")) or self._tokens
        for choice in event.get("choices") or ():
            events += self._delta(choice.get("delta") or {})
            self._finish_reason = read_finish_reason(choice) or self._finish_reason
        return events

    def finish(self) -> list[Json]:
        """Return the events that end the response; none if no finish reason has arrived."""
        if self._finish_reason is None or self.is_complete:
            return []
        self.is_complete = True
        events = self._close()
        for index, call in zip(self._call_indexes.values(), self._calls.all(), strict=True):
            events += self._end_call(index, call)
        response = end_response(self._response, self._output, self._finish_reason, self._tokens or Tokens())
        return [*events, self._event(f"response.{response['status']}", response=response)]

    def _delta(self, delta: Json) -> list[Json]:
        events: list[Json] = []
        if text := read_reasoning(delta):
            item_id = f"rs_{self._completion_id}_{len(self._output)}"
            events += self._open("reasoning", make_reasoning_item(item_id, ""))
            events.append(self._text_delta("response.reasoning_text.delta", text))
        if text := read_text(delta):
            item_id = f"msg_{self._completion_id}_{len(self._output)}"
            events += self._open("message", make_message_item(item_id, "", "in_progress"))
            events.append(self._text_delta("response.output_text.delta", text))
        for number, call, piece in self._calls.feed(delta):
            if number not in self._call_indexes:
                events += self._close()
                self._call_indexes[number] = len(self._output)
                item = make_call_item(call.id, call.name, "", self._names, "in_progress")
                events.append(self._add_item(item))
            if piece and call.name not in self._names.custom:
                index = self._call_indexes[number]
                kind, item_id = "response.function_call_arguments.delta", self._output[index]["id"]
                events.append(self._event(kind, item_id=item_id, output_index=index, delta=piece))
        return events

    def _open(self, kind: str, item: Json) -> list[Json]:
        """Open an item of text or reasoning, unless it is open; another open one is closed."""
        if self._open_item == kind:
            return []
        events = [*self._close(), self._add_item(item)]
        self._open_item, self._text = kind, ""
        part = make_text_part("") if kind == "message" else {"type": "reasoning_text", "text": ""}
        return [*events, self._part_event("response.content_part.added", part=part)]

    def _close(self) -> list[Json]:
        if self._open_item is None:
            return []
        index, text = len(self._output) - 1, self._text
        item_id = self._output[index]["id"]
        logprobs: Json = {}
        if self._open_item == "message":
            kind, part, item = (
                "response.output_text.done",
                make_text_part(text),
                make_message_item(item_id, text),
            )
            logprobs = {"logprobs": []}
        else:
            kind, part = "response.reasoning_text.done", {"type": "reasoning_text", "text": text}
            item = make_reasoning_item(item_id, text)
        self._open_item, self._output[index] = None, item
        return [
            self._part_event(kind, text=text, **logprobs),
            self._part_event("response.content_part.done", part=part),
            self._event("response.output_item.done", output_index=index, item=item),
        ]

    def _end_call(self, index: int, call: ToolCall) -> list[Json]:
        arguments = call.arguments or "{}"
        item = self._output[index] = make_call_item(call.id, call.name, arguments, self._names)
        position: Json = {"item_id": item["id"], "output_index": index}
        if call.name in self._names.custom:
            done = self._event("response.custom_tool_call_input.done", **position, input=item["input"])
        else:
            kind = "response.function_call_arguments.done"
            done = self._event(kind, **position, name=item["name"], arguments=arguments)
        return [done, self._event("response.output_item.done", output_index=index, item=item)]

    def _add_item(self, item: Json) -> Json:
        self._size.add_item()
        self._output.append(item)
        return self._event("response.output_item.added", output_index=len(self._output) - 1, item=item)

    def _text_delta(self, kind: str, text: str) -> Json:
        self._size.add(len(text))
        self._text += text
        logprobs: Json = {"logprobs": []} if self._open_item == "message" else {}
        return self._part_event(kind, delta=text, **logprobs)

    def _part_event(self, kind: str, **members: Any) -> Json:
        """Return an event about the only part of the newest item."""
        index = len(self._output) - 1
        return self._event(
            kind, item_id=self._output[index]["id"], output_index=index, content_index=0, **members
        )

    def _event(self, kind: str, **members: Any) -> Json:
        self._sequence_number += 1
        return {"type": kind, "sequence_number": self._sequence_number, **members}

    def _error(self, error: Any) -> list[Json]:
        self.is_complete = self.has_failed = True
        members = error if isinstance(error, dict) else {"message": str(error)}
        message = members.get("message") or "the provider failed"
        code = {"code": str(members.get("code") or "server_error"), "message": message}
        response = self._response or start_response("", {})
        failed = {**response, "status": "failed", "output": self._output, "error": code}
        return [self._event("response.failed", response=failed)]

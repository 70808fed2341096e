"""Chunks of a chat completion as the events of a response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmstack.providers.translation.base import Json, Tokens, chat_tokens
from llmstack.providers.translation.chunks import ToolCalls, finish, said, thought
from llmstack.providers.translation.responses_on_chat.answer import (
    call_item,
    finished,
    message_item,
    reasoning_item,
    shell,
    text_part,
)

if TYPE_CHECKING:
    from llmstack.providers.translation.chunks import ToolCall
    from llmstack.providers.translation.responses_on_chat.request import ToolNames


class Stream:
    """Chunks of a chat completion as the events of a response.

    Thoughts, text and each tool call are items, told apart by their number: arguments go out as they come.
    """

    def __init__(self, names: ToolNames) -> None:
        self.complete = False
        self.failed = False
        self._tokens: Tokens | None = None
        self._names = names
        self._id = ""
        self._response: Json = {}
        self._output: list[Json] = []  # items, each at its number
        self._written = ""
        self._open: str | None = None  # `reasoning` or `message`
        self._calls = ToolCalls()
        self._places: dict[int, int] = {}  # number of the item, by that of the call
        self._reason: str | None = None
        self._sequence = -1

    def event(self, data: Json) -> list[Json]:
        """Return what one chunk becomes."""
        if data.get("error"):
            return self._error(data["error"])
        events: list[Json] = []
        if not self._response:
            self._id = str(data.get("id", ""))
            self._response = shell(self._id, data)
            begun = ("response.created", "response.in_progress")
            events += [self._event(kind, response=self._response) for kind in begun]
        self._tokens = chat_tokens(data.get("usage")) or self._tokens
        for choice in data.get("choices") or ():
            events += self._delta(choice.get("delta") or {})
            self._reason = finish(choice) or self._reason
        return events

    def end(self) -> list[Json]:
        """Return the end of the response, where a finish reason was given."""
        if self._reason is None or self.complete:
            return []
        self.complete = True
        events = self._close()
        for place, call in zip(self._places.values(), self._calls.all(), strict=True):
            events += self._call_done(place, call)
        response = finished(self._response, self._output, self._reason, self._tokens or Tokens())
        return [*events, self._event(f"response.{response['status']}", response=response)]

    def _delta(self, delta: Json) -> list[Json]:
        events: list[Json] = []
        if text := thought(delta):
            events += self._item("reasoning", reasoning_item(f"rs_{self._id}_{len(self._output)}", ""))
            events.append(self._piece("response.reasoning_text.delta", text))
        if text := said(delta):
            name = f"msg_{self._id}_{len(self._output)}"
            events += self._item("message", message_item(name, "", "in_progress"))
            events.append(self._piece("response.output_text.delta", text))
        for number, call, piece in self._calls.feed(delta):
            if number not in self._places:
                events += self._close()
                self._places[number] = len(self._output)
                item = call_item(call.id, call.name, "", self._names, "in_progress")
                events.append(self._added(item))
            if piece and call.name not in self._names.custom:
                place = self._places[number]
                kind, name = "response.function_call_arguments.delta", self._output[place]["id"]
                events.append(self._event(kind, item_id=name, output_index=place, delta=piece))
        return events

    def _item(self, kind: str, item: Json) -> list[Json]:
        """Open an item of text or thoughts, unless it is open."""
        if self._open == kind:
            return []
        events = [*self._close(), self._added(item)]
        self._open, self._written = kind, ""
        part = text_part("") if kind == "message" else {"type": "reasoning_text", "text": ""}
        return [*events, self._at("response.content_part.added", part=part)]

    def _close(self) -> list[Json]:
        if self._open is None:
            return []
        place, text = len(self._output) - 1, self._written
        item = self._output[place]
        if self._open == "message":
            kind, part, whole = "response.output_text.done", text_part(text), message_item(item["id"], text)
        else:
            kind, part = "response.reasoning_text.done", {"type": "reasoning_text", "text": text}
            whole = reasoning_item(item["id"], text)
        more: Json = {"logprobs": []} if self._open == "message" else {}
        self._open, self._output[place] = None, whole
        return [
            self._at(kind, text=text, **more),
            self._at("response.content_part.done", part=part),
            self._event("response.output_item.done", output_index=place, item=whole),
        ]

    def _call_done(self, place: int, call: ToolCall) -> list[Json]:
        given = call.arguments or "{}"
        item = self._output[place] = call_item(call.id, call.name, given, self._names)
        where: Json = {"item_id": item["id"], "output_index": place}
        if call.name in self._names.custom:
            done = self._event("response.custom_tool_call_input.done", **where, input=item["input"])
        else:
            kind = "response.function_call_arguments.done"
            done = self._event(kind, **where, name=item["name"], arguments=given)
        return [done, self._event("response.output_item.done", output_index=place, item=item)]

    def _added(self, item: Json) -> Json:
        self._output.append(item)
        return self._event("response.output_item.added", output_index=len(self._output) - 1, item=item)

    def _piece(self, kind: str, text: str) -> Json:
        self._written += text
        more: Json = {"logprobs": []} if self._open == "message" else {}
        return self._at(kind, delta=text, **more)

    def _at(self, kind: str, **more: Any) -> Json:
        """Return an event about the one part of the newest item."""
        place = len(self._output) - 1
        return self._event(
            kind, item_id=self._output[place]["id"], output_index=place, content_index=0, **more
        )

    def _event(self, kind: str, **more: Any) -> Json:
        self._sequence += 1
        return {"type": kind, "sequence_number": self._sequence, **more}

    def _error(self, error: Any) -> list[Json]:
        self.complete = self.failed = True
        told = error if isinstance(error, dict) else {"message": str(error)}
        message = told.get("message") or "the provider failed"
        response = self._response or shell("", {})
        code = {"code": str(told.get("code") or "server_error"), "message": message}
        failed = {**response, "status": "failed", "output": self._output, "error": code}
        return [self._event("response.failed", response=failed)]

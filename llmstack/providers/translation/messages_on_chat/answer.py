"""A chat completion's answers, whole and as chunks, as Anthropic's."""

from __future__ import annotations

from typing import Any

from llmstack.providers.translation.base import Json, Tokens, arguments, chat_tokens
from llmstack.providers.translation.chunks import ToolCalls, finish, said, thought

STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def usage_of(tokens: Tokens) -> Json:
    """Return Anthropic's `usage`, where what came from a cache is not input."""
    return {
        "input_tokens": tokens.prompt - tokens.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": tokens.cached,
        "output_tokens": tokens.completion,
    }


def _message(body: Json, content: list[Json], reason: str | None, tokens: Tokens) -> Json:
    return {
        "id": f"msg_{body.get('id', '')}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", ""),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage_of(tokens),
    }


def answer(body: Json) -> Json:
    """Translate a whole answer."""
    choice = body["choices"][0]
    message = choice["message"]
    content: list[Json] = []
    if text := thought(message):
        content.append({"type": "thinking", "thinking": text, "signature": ""})
    if text := said(message):
        content.append({"type": "text", "text": text})
    for call in message.get("tool_calls") or ():
        function = call["function"]
        given = arguments(function.get("arguments"))
        content.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": given})
    reason = STOP.get(finish(choice) or "", "end_turn")
    if reason == "end_turn" and message.get("tool_calls"):
        reason = "tool_use"  # some servers say `stop` there, and clients would not run the tools
    return _message(body, content, reason, chat_tokens(body.get("usage")) or Tokens())


class Stream:
    """Chunks of a chat completion as Anthropic's events. One block is open at a time."""

    def __init__(self) -> None:
        self.complete = False
        self.failed = False
        self._tokens: Tokens | None = None
        self._started = False
        self._open: str | None = None  # kind of the open block; `tool 3` for one of several calls
        self._index = -1
        self._calls = ToolCalls()
        self._late: Json = {"content": ""}  # what was said while a call was open, which may not be complete
        self._reason: str | None = None

    def event(self, data: Json) -> list[Json]:
        """Return what one chunk becomes."""
        if data.get("error"):
            return self._error(data["error"])
        events: list[Json] = []
        if not self._started:
            self._started = True
            events.append({"type": "message_start", "message": _message(data, [], None, Tokens())})
        self._tokens = chat_tokens(data.get("usage")) or self._tokens
        for choice in data.get("choices") or ():
            events += self._delta(choice.get("delta") or {})
            self._reason = finish(choice) or self._reason
        return events

    def end(self) -> list[Json]:
        """Return the end of the message, where a finish reason was given."""
        if self._reason is None or self.complete:
            return []
        self.complete = True
        events = []
        for number, call in self._calls.waiting():
            events += self._block(f"tool {number}", call.start)
            events += self._pieces(call.arguments)
        events += self._close()
        events += self._delta(self._late)
        events += self._close()
        reason = STOP.get(self._reason, "end_turn")
        if reason == "end_turn" and self._calls:
            reason = "tool_use"
        delta = {"stop_reason": reason, "stop_sequence": None}
        usage = usage_of(self._tokens or Tokens())
        return [*events, {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]

    def _delta(self, delta: Json) -> list[Json]:
        events: list[Json] = []
        if (text := thought(delta)) and not (self._open or "").startswith("tool"):
            events += self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            events.append(self._piece({"type": "thinking_delta", "thinking": text}))
        if (text := said(delta)) and (self._open or "").startswith("tool"):
            self._late["content"] += text
        elif text:
            events += self._block("text", {"type": "text", "text": ""})
            events.append(self._piece({"type": "text_delta", "text": text}))
        for number, call, piece in self._calls.feed(delta):
            kind = f"tool {number}"
            if self._open != kind and (self._open or "").startswith("tool"):
                continue  # its turn comes when the open call is complete, which shows at the end only
            if self._open != kind:
                call.sent = True
                events += self._block(kind, call.start)
                piece = call.arguments  # noqa: PLW2901 - what came before its block was open
            events += self._pieces(piece)
        return events

    def _block(self, kind: str, block: Json) -> list[Json]:
        """Open a block, unless it is open; whichever else is open is closed."""
        if self._open == kind:
            return []
        events = self._close()
        self._open = kind
        self._index += 1
        return [*events, {"type": "content_block_start", "index": self._index, "content_block": block}]

    def _close(self) -> list[Json]:
        if self._open is None:
            return []
        self._open = None
        return [{"type": "content_block_stop", "index": self._index}]

    def _pieces(self, text: str) -> list[Json]:
        return [self._piece({"type": "input_json_delta", "partial_json": text})] if text else []

    def _piece(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _error(self, error: Any) -> list[Json]:
        self.complete = self.failed = True
        told = error if isinstance(error, dict) else {"message": str(error)}
        code = told.get("code")
        kind = ERRORS.get(code, "api_error") if isinstance(code, int) else "api_error"
        return [
            {
                "type": "error",
                "error": {"type": kind, "message": told.get("message") or "the provider failed"},
            }
        ]

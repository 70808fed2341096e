"""OpenAI's chat completions and completions. Source: platform.openai.com/docs/api-reference."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from llmstack.policy.facts import IMAGE_TOKENS, RequestFacts, tokens, without_harness
from llmstack.router.dialects.base import BadRequestError, FailureReport, ParsedRequest, StreamWatch, Usage

T = TypeVar("T")

RECENT_BYTES = 64  # kept of the bytes before a chunk, since a mark may be cut in two

# What ends an answer: a finish reason, an error event of the server's, or else the closing mark (group 1).
# Inside a string of JSON the quotes would be escaped.
_END = re.compile(rb'"finish_reason"\s*:\s*"[^"]|[\r\n]data: ?(?:\{\s*"error"\s*:\s*[^\sn]|(\[DONE\]))')

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[_Part] | None = None
    reasoning_content: msgspec.Raw = msgspec.Raw()
    tool_calls: msgspec.Raw = msgspec.Raw()
    function_call: msgspec.Raw = msgspec.Raw()


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Chat(msgspec.Struct):
    messages: list[_Message]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: msgspec.Raw = msgspec.Raw()
    functions: msgspec.Raw = msgspec.Raw()
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


class _Completion(msgspec.Struct):
    prompt: str | list[Any] | None = None
    suffix: str | None = None
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Answer(msgspec.Struct):
    usage: _Usage | None = None


class _Named(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None


class _Openai:
    """What both APIs share."""

    def error(self, report: FailureReport) -> bytes:
        """Return OpenAI's error object, with who failed."""
        default = "server_error" if report.status >= 500 else "invalid_request_error"  # noqa: PLR2004 - HTTP
        body = {
            "message": report.message,
            "type": _ERROR_TYPES.get(report.status, default),
            "param": None,
            "code": report.code,
            "origin": report.origin,
        }
        return json.dumps({"error": body}).encode()

    def error_event(self, report: FailureReport) -> bytes:
        """Return the error object as an event; SDKs raise on it."""
        return b"data: " + self.error(report) + b"\n\n"

    def watch(self) -> StreamWatch:
        """Return what waits for a finish reason."""
        return FinishWatch()

    def usage(self, answer: bytes) -> Usage | None:
        """Return what an answer, or the last event of one, says of its tokens."""
        try:
            said = _ANSWER.decode(answer).usage
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if said is None:
            return None
        details = said.prompt_tokens_details
        return Usage(said.prompt_tokens, said.completion_tokens, (details and details.cached_tokens) or 0)


class FinishWatch:
    """Waits for a finish reason, and holds back a closing mark that comes without one.

    Clients take `[DONE]` for the end, and loop or keep half an answer where no finish reason came before it.
    """

    def __init__(self) -> None:
        self.complete = False
        self.usage: Usage | None = None
        self._held = False
        self._recent = b"\n"  # an event may start the stream

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be passed on: all of it, or what stands before an early closing mark."""
        if self.complete:
            return chunk
        if self._held:
            return b""
        window = self._recent + chunk
        found = _END.search(window)
        if found is None:
            self._recent = window[-RECENT_BYTES:]
            return chunk
        if found[1] is None:
            self.complete = True
            return chunk
        self._held = True
        return chunk[: max(0, found.start() + 1 - len(self._recent))]


class TrustingWatch:
    """Takes every end for a proper one: of APIs whose end the router does not know."""

    complete = True
    usage: Usage | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Return all of it."""
        return chunk


class Untranslated(_Openai):
    """Any other path: errors look like OpenAI's, bodies and streams are passed on as they are."""

    def parse(self, body: bytes) -> ParsedRequest:
        """Read the model it names, where there is one."""
        if body.lstrip()[:1] != b"{":
            return ParsedRequest(None, stream=False, facts=RequestFacts())
        request = _decode(body, _NAMED)
        return ParsedRequest(request.model, bool(request.stream), RequestFacts())

    def watch(self) -> StreamWatch:
        """Return what lets everything pass."""
        return TrustingWatch()


class OpenaiChat(_Openai):
    """`/v1/chat/completions`."""

    def parse(self, body: bytes) -> ParsedRequest:
        """Read messages, tools and limits."""
        request = _decode(body, _CHAT)
        text = [_text(message.content) for message in request.messages]
        conversation = sum(map(len, text))
        extra = len(request.tools) + len(request.functions)
        extra += sum(map(_unsaid, request.messages))
        words = [
            written
            for message, said in zip(request.messages, text, strict=True)
            if message.role == "user" and ((written := without_harness(said)) or _images(message))
        ]
        facts = RequestFacts(
            conversation_tokens=tokens(conversation),
            context_tokens=tokens(conversation + extra) + IMAGE_TOKENS * sum(map(_images, request.messages)),
            user_turns=len(words),
            tool_result_pending=bool(request.messages) and request.messages[-1].role in {"tool", "function"},
            last_words=words[-1] if words else "",
            output_tokens=max(0, request.max_completion_tokens or request.max_tokens or 0),
        )
        return ParsedRequest(request.model, bool(request.stream), facts)


class OpenaiCompletion(_Openai):
    """`/v1/completions`."""

    def parse(self, body: bytes) -> ParsedRequest:
        """Read the prompt: a string, several, or token numbers."""
        request = _decode(body, _COMPLETION)
        text, numbers = _prompt(request.prompt)
        size = tokens(sum(map(len, text)) + len(request.suffix or "")) + numbers
        facts = RequestFacts(
            conversation_tokens=size,
            context_tokens=size,
            user_turns=1,
            last_words=without_harness(text[-1]) if text else "",
            output_tokens=max(0, request.max_tokens or 0),
        )
        return ParsedRequest(request.model, bool(request.stream), facts)


_CHAT = msgspec.json.Decoder(_Chat)
_COMPLETION = msgspec.json.Decoder(_Completion)
_ANSWER = msgspec.json.Decoder(_Answer)
_NAMED = msgspec.json.Decoder(_Named)


def _decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequestError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise BadRequestError("the body is nested too deeply") from error


def _text(content: str | list[_Part] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(said for part in content if (said := part.text or part.refusal))


def _unsaid(message: _Message) -> int:
    """Return the characters of a message that a model reads besides its text."""
    return len(message.tool_calls) + len(message.function_call) + len(message.reasoning_content)


def _images(message: _Message) -> int:
    if not isinstance(message.content, list):
        return 0
    return sum(part.type in {"image_url", "input_audio", "file"} for part in message.content)


def _prompt(prompt: str | list[Any] | None) -> tuple[list[str], int]:
    """Return the texts of a prompt, and how many tokens it has as numbers."""
    if prompt is None or isinstance(prompt, str):
        return [prompt or ""], 0
    flat = [item for entry in prompt for item in (entry if isinstance(entry, list) else [entry])]
    return [item for item in flat if isinstance(item, str)], sum(isinstance(item, int) for item in flat)

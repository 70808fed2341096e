"""Anthropic's messages, and counting their tokens. Source: platform.claude.com/docs/en/api/messages."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from llmstack.providers.translation.failures import parse_failure
from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.conversation_cache import ConversationReader
from llmstack.router.dialects.parsing import NULL_BYTES, SYSTEM_ROLES, decode
from llmstack.router.dialects.stream import EndWatch, TrustingWatch, token_count, usage_in
from llmstack.serving.errors import FailureReport

if TYPE_CHECKING:
    from llmstack.router.dialects.base import StreamWatch, Usage
    from llmstack.router.dialects.parsing import Transcript
    from llmstack.serving.errors import Origin

_END = re.compile(rb'"type"\s*:\s*"(?:message_stop|error)"|[\r\n]data: ?(?:\{\s*"error"\s*:\s*\{|(\[DONE\]))')

_HINTS = (b"message_stop", b'"error"', b"[DONE]")

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class _Source(msgspec.Struct):
    type: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    content: msgspec.Raw = msgspec.Raw()  # of a tool's result
    input: msgspec.Raw = msgspec.Raw()  # of a call
    thinking: msgspec.Raw = msgspec.Raw()
    source: _Source | None = None


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[_Block] | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Messages(msgspec.Struct):
    messages: list[_Message]
    system: str | list[_Block] | None = None
    model: str | None = None
    stream: bool | None = None
    tools: msgspec.Raw = msgspec.Raw()
    max_tokens: int | None = None
    metadata: _Metadata | None = None


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class _Failure(msgspec.Struct):
    type: str = ""
    error: _Error | None = None


class _UserId(msgspec.Struct):
    session_id: str | None = None


class Messages:
    """`/v1/messages`."""

    accepts_slot = False  # llama.cpp translates these and keeps only the members it knows

    def __init__(self) -> None:
        self._conversations = ConversationReader(_MESSAGES, attrgetter("messages"), _add_message)

    def parse(self, body: bytes) -> ParsedRequest:
        """Read system prompt, messages, tools and limits."""
        request, transcript = self._conversations.read(body)
        transcript.hidden_chars += len(request.tools)
        if request.system:
            transcript.prepend_system(_text(request.system))
        facts = transcript.facts(output_tokens=request.max_tokens, tools=len(request.tools) > NULL_BYTES)
        user = request.metadata.user_id if request.metadata else None
        return ParsedRequest(
            request.model,
            bool(request.stream),
            facts,
            session_name=_session_name(user) if user else None,
            opening=transcript.opening,
        )

    def error(self, report: FailureReport) -> bytes:
        """Return Anthropic's error object, with who failed."""
        default = (
            "api_error" if report.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        )
        error = {
            "type": _ERROR_TYPES.get(report.status, default),
            "message": _message(report),
            "code": report.code,
            "origin": report.origin,
        }
        return json.dumps({"type": "error", "error": error, "request_id": None}).encode()

    def server_error(self, status: int, body: bytes, origin: Origin) -> bytes:
        """Return a server's error in Anthropic's form; llama.cpp uses OpenAI's form on this path too."""
        try:
            decoded = _FAILURE.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            reported = parse_failure(status, body, {})
            return self.error(FailureReport(status, f"upstream_{status}", reported.message, origin))
        if decoded.type == "error" or decoded.error is None:
            return body
        error = decoded.error
        if error.type != "exceed_context_size_error":
            return self.error(FailureReport(status, f"upstream_{status}", error.message, origin))
        needed, window = error.n_prompt_tokens, error.n_ctx
        code = "context_length_exceeded"
        return self.error(FailureReport(400, code, error.message, origin, needed=needed, window=window))

    def error_event(self, report: FailureReport) -> bytes:
        """Return the error object as an event; SDKs raise on it."""
        return b"event: error\ndata: " + self.error(report) + b"\n\n"

    def watch(self) -> StreamWatch:
        """Return a watch that waits for `message_stop`."""
        return EndWatch(_END, _HINTS)

    def usage(self, answer: bytes) -> Usage | None:
        """Return the tokens that an answer reports."""
        return usage_in(answer)


class CountTokens(Messages):
    """`/v1/messages/count_tokens`: the same body; the answer is a number."""

    def watch(self) -> StreamWatch:
        """Return a watch that passes everything: these answers are not streamed."""
        return TrustingWatch()

    def usage(self, answer: bytes) -> Usage | None:
        """Return the counted tokens."""
        return token_count(answer)


def _message(report: FailureReport) -> str:
    """Return the text of an error; Claude Code compacts a conversation only on exactly these words."""
    if report.code != "context_length_exceeded":
        return report.message
    sizes = f": {report.needed} tokens > {report.window} maximum" if report.window else ""
    return f"prompt is too long{sizes}: {report.message}"


def _session_name(user_id: str) -> str | None:
    """Return the session in Claude Code's user id: JSON, or `user_…_account_…_session_<id>` before 2.1."""
    if user_id.startswith("{"):
        try:
            return _USER_ID.decode(user_id).session_id or None
        except (msgspec.MsgspecError, RecursionError):
            return None
    return user_id.rpartition("_session_")[2] if "_session_" in user_id else None


def _add_message(message: _Message, transcript: Transcript) -> None:
    if message.role in SYSTEM_ROLES:
        transcript.add_system(_text(message.content))
        return
    blocks = message.content if isinstance(message.content, list) else []
    for block in blocks:
        transcript.hidden_chars += len(block.input) + len(block.thinking)
        if block.type == "tool_result":
            text, images, files = _result(block)
            transcript.add_tool_result(text, images=images)
            transcript.files += files
    answers_tool = any(block.type == "tool_result" for block in blocks)
    text, images, files = _text(message.content), _images(blocks), _files(blocks)
    if message.role == "user":
        transcript.add_user(text, images=images, files=files)
    else:
        transcript.add_assistant(text)
    transcript.tool_result_pending = transcript.tool_result_pending or answers_tool


def _result(block: _Block) -> tuple[str, int, int]:
    """Return the text of a tool's result, and how many pictures and documents it has."""
    content = decode(block.content, _CONTENT) if len(block.content) else None
    blocks = content if isinstance(content, list) else []
    return _text(content), _images(blocks), _files(blocks)


def _text(content: str | list[_Block] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(text for block in content if (text := block.text or _document_text(block)))


def _document_text(block: _Block) -> str:
    """Return the text of a text document; empty for any other block."""
    if block.source is None or block.source.type != "text" or not len(block.source.data):
        return ""
    return decode(block.source.data, _STRING)


def _images(blocks: list[_Block]) -> int:
    return sum(block.type == "image" for block in blocks)


def _files(blocks: list[_Block]) -> int:
    return sum(
        block.type == "document" and block.source is not None and block.source.type != "text"
        for block in blocks
    )


_MESSAGES = msgspec.json.Decoder(_Messages)
_FAILURE = msgspec.json.Decoder(_Failure)
_USER_ID = msgspec.json.Decoder(_UserId)
_CONTENT: msgspec.json.Decoder[str | list[_Block] | None] = msgspec.json.Decoder(str | list[_Block] | None)
_STRING = msgspec.json.Decoder(str)

"""OpenAI's responses. Source: platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.conversation_cache import ConversationReader
from llmstack.router.dialects.openai import Openai, error_object
from llmstack.router.dialects.parsing import ABSENT, NULL_BYTES, SYSTEM_ROLES, decode
from llmstack.router.dialects.stream import EndWatch

if TYPE_CHECKING:
    from llmstack.router.dialects.base import StreamWatch
    from llmstack.router.dialects.parsing import Transcript
    from llmstack.serving.errors import FailureReport

_END = re.compile(
    rb'"type"\s*:\s*"(?:response\.(?:completed|incomplete|failed)|error)"'
    rb'|[\r\n]data: ?(?:\{\s*"error"\s*:\s*[^\sn]|(\[DONE\]))'
)
_HINTS = (b"response.completed", b"response.incomplete", b"response.failed", b'"error"', b"[DONE]")
_ITEM_STARTS = (b'{"type":"message"', b'{"type":"function_call', b'{"type":"reasoning"', b'{"role"')
_FILES = frozenset(("input_audio", "input_file"))


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    type: str = "message"
    role: str = ""
    content: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()
    arguments: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()  # of a custom tool
    summary: msgspec.Raw = msgspec.Raw()


class _Conversation(msgspec.Struct):
    id: str | None = None


class _Response(msgspec.Struct):
    input: str | list[_Item] | None = None
    instructions: str | None = None
    model: str | None = None
    stream: bool | None = None
    id_slot: msgspec.Raw = ABSENT
    tools: msgspec.Raw = msgspec.Raw()
    max_output_tokens: int | None = None
    prompt_cache_key: str | None = None
    conversation: str | _Conversation | None = None


class Responses(Openai):
    """`/v1/responses`."""

    def __init__(self) -> None:
        self._conversations = ConversationReader(_RESPONSE, _items, _add_message, "input", _ITEM_STARTS)

    def parse(self, body: bytes) -> ParsedRequest:
        """Read instructions, input items, tools and limits."""
        request, transcript = self._conversations.read(body)
        transcript.hidden_chars += len(request.tools)
        if request.instructions:
            transcript.prepend_system(request.instructions)
        if isinstance(request.input, str):
            transcript.add_user(request.input)
        facts = transcript.facts(
            output_tokens=request.max_output_tokens, tools=len(request.tools) > NULL_BYTES
        )
        return ParsedRequest(
            request.model,
            bool(request.stream),
            facts,
            session_name=_session_name(request),
            opening=transcript.opening,
            has_slot=bool(request.id_slot),
        )

    def error_event(self, report: FailureReport) -> bytes:
        """Return the event that ends a response that failed, then one that SDKs raise on."""
        error = error_object(report)
        response = {"id": "resp_failed", "object": "response", "status": "failed", "output": []}
        failed = _event("response.failed", response={**response, "error": error})
        return failed + _event("error", error=error, code=report.code, message=report.message)

    def watch(self) -> StreamWatch:
        """Return a watch that waits for the event with the whole response."""
        return EndWatch(_END, _HINTS)


def _event(kind: str, **members: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def _session_name(request: _Response) -> str | None:
    conversation = request.conversation
    conversation_id = conversation.id if isinstance(conversation, _Conversation) else conversation
    return request.prompt_cache_key or conversation_id or None


def _items(request: _Response) -> list[_Item]:
    return request.input if isinstance(request.input, list) else []


def _add_message(item: _Item, transcript: Transcript) -> None:
    if item.type.endswith("_output"):
        text, images, files = _content(item.output)
        transcript.add_tool_result(text, images=images)
        transcript.files += files
        return
    transcript.hidden_chars += len(item.arguments) + len(item.input) + len(item.summary)
    if item.type == "reasoning":
        transcript.hidden_chars += len(item.content)
        return
    if item.type != "message":
        return
    text, images, files = _content(item.content)
    if item.role in SYSTEM_ROLES:
        transcript.add_system(text)
    elif item.role == "user":
        transcript.add_user(text, images=images, files=files)
    else:
        transcript.add_assistant(text)


def _content(content: msgspec.Raw) -> tuple[str, int, int]:
    """Return the text of an item, and how many pictures and other files it has."""
    if not len(content):
        return "", 0, 0
    decoded = decode(content, _CONTENT)
    if decoded is None or isinstance(decoded, str):
        return decoded or "", 0, 0
    parts = decoded if isinstance(decoded, list) else [decoded]
    text = "\n".join(text for part in parts if (text := part.text or part.refusal))
    images = sum(part.type in {"input_image", "computer_screenshot"} for part in parts)
    return text, images, sum(part.type in _FILES for part in parts)


_RESPONSE = msgspec.json.Decoder(_Response)
_CONTENT: msgspec.json.Decoder[str | list[_Part] | _Part | None] = msgspec.json.Decoder(
    str | list[_Part] | _Part | None
)

"""OpenAI's responses. Source: platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.conversation_cache import ConversationReader
from llmstack.router.dialects.openai import Openai, error_object
from llmstack.router.dialects.parsing import ABSENT, NULL, SYSTEM_ROLES, decode
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
_BEGINS = (b'{"type":"message"', b'{"type":"function_call', b'{"type":"reasoning"', b'{"role"')
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
        self._conversations = ConversationReader(_RESPONSE, _items, _read, "input", _BEGINS)

    def parse(self, body: bytes) -> ParsedRequest:
        """Read instructions, input items, tools and limits."""
        request, said = self._conversations.read(body)
        said.unsaid += len(request.tools)
        if request.instructions:
            said.headed(request.instructions)
        if isinstance(request.input, str):
            said.heard(request.input)
        facts = said.facts(output_tokens=request.max_output_tokens, tools=len(request.tools) > NULL)
        return ParsedRequest(
            request.model,
            bool(request.stream),
            facts,
            session=_session(request),
            opening=said.opening,
            names_slot=bool(request.id_slot),
        )

    def error_event(self, report: FailureReport) -> bytes:
        """Return the event that ends a response that failed, then one that SDKs raise on."""
        error = error_object(report)
        response = {"id": "resp_failed", "object": "response", "status": "failed", "output": []}
        failed = _event("response.failed", response={**response, "error": error})
        return failed + _event("error", error=error, code=report.code, message=report.message)

    def watch(self) -> StreamWatch:
        """Return what waits for the event with the whole response."""
        return EndWatch(_END, _HINTS)


def _event(kind: str, **members: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def _session(request: _Response) -> str | None:
    conversation = request.conversation
    named = conversation.id if isinstance(conversation, _Conversation) else conversation
    return request.prompt_cache_key or named or None


def _items(request: _Response) -> list[_Item]:
    return request.input if isinstance(request.input, list) else []


def _read(item: _Item, said: Transcript) -> None:
    if item.type.endswith("_output"):
        text, images, files = _content(item.output)
        said.returned(text, images=images)
        said.files += files
        return
    said.unsaid += len(item.arguments) + len(item.input) + len(item.summary)
    if item.type == "reasoning":
        said.unsaid += len(item.content)
        return
    if item.type != "message":
        return
    text, images, files = _content(item.content)
    if item.role in SYSTEM_ROLES:
        said.instructed(text)
    elif item.role == "user":
        said.heard(text, images=images, files=files)
    else:
        said.answered(text)


def _content(content: msgspec.Raw) -> tuple[str, int, int]:
    """Return the text of an item, and how many pictures and other files it has."""
    if not len(content):
        return "", 0, 0
    read = decode(content, _CONTENT)
    if read is None or isinstance(read, str):
        return read or "", 0, 0
    parts = read if isinstance(read, list) else [read]
    text = "\n".join(said for part in parts if (said := part.text or part.refusal))
    images = sum(part.type in {"input_image", "computer_screenshot"} for part in parts)
    return text, images, sum(part.type in _FILES for part in parts)


_RESPONSE = msgspec.json.Decoder(_Response)
_CONTENT: msgspec.json.Decoder[str | list[_Part] | _Part | None] = msgspec.json.Decoder(
    str | list[_Part] | _Part | None
)

"""OpenAI's chat completions. Source: platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.conversation_cache import ConversationReader
from llmstack.router.dialects.openai import Openai
from llmstack.router.dialects.parsing import ABSENT, NULL_BYTES, SYSTEM_ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmstack.router.dialects.parsing import Transcript

_FILES = frozenset(("input_audio", "file"))


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: str | list[_Part] | None = None
    reasoning_content: msgspec.Raw = msgspec.Raw()
    tool_calls: msgspec.Raw = msgspec.Raw()
    function_call: msgspec.Raw = msgspec.Raw()


class _Chat(msgspec.Struct):
    messages: list[_Message]
    model: str | None = None
    stream: bool | None = None
    id_slot: msgspec.Raw = ABSENT
    tools: msgspec.Raw = msgspec.Raw()
    functions: msgspec.Raw = msgspec.Raw()
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    prompt_cache_key: str | None = None


class OpenaiChat(Openai):
    """`/v1/chat/completions`."""

    def __init__(self) -> None:
        self._conversations = ConversationReader(_CHAT, attrgetter("messages"), _add_message)

    def parse(self, body: bytes) -> ParsedRequest:
        """Read messages, tools and limits."""
        request, transcript = self._conversations.read(body)
        transcript.hidden_chars += len(request.tools) + len(request.functions)
        facts = transcript.facts(
            output_tokens=request.max_completion_tokens or request.max_tokens,
            tools=len(request.tools) > NULL_BYTES or len(request.functions) > NULL_BYTES,
        )
        return ParsedRequest(
            request.model,
            bool(request.stream),
            facts,
            session_name=request.prompt_cache_key or None,
            opening=transcript.opening,
            has_slot=bool(request.id_slot),
        )


def _add_message(message: _Message, transcript: Transcript) -> None:
    text, images, files = message.content, 0, 0
    if not isinstance(text, str):
        text, images, files = _content(text or ())
    transcript.hidden_chars += (
        len(message.tool_calls) + len(message.function_call) + len(message.reasoning_content)
    )
    if message.role == "user":
        transcript.add_user(text, images=images, files=files)
    elif message.role in SYSTEM_ROLES:
        transcript.add_system(text)
    elif message.role in {"tool", "function"}:
        transcript.add_tool_result(text, images=images)
    else:
        transcript.add_assistant(text)


def _content(parts: Sequence[_Part]) -> tuple[str, int, int]:
    """Return the text of a message, and how many pictures and other files it has."""
    text = "\n".join(text for part in parts if (text := part.text or part.refusal))
    images = sum(part.type == "image_url" for part in parts)
    return text, images, sum(part.type in _FILES for part in parts)


_CHAT = msgspec.json.Decoder(_Chat)

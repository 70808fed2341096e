"""OpenAI's chat completions. Source: platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.conversation_cache import ConversationReader
from llmstack.router.dialects.openai import Openai
from llmstack.router.dialects.parsing import ABSENT, NULL, SYSTEM_ROLES

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
        self._conversations = ConversationReader(_CHAT, attrgetter("messages"), _read)

    def parse(self, body: bytes) -> ParsedRequest:
        """Read messages, tools and limits."""
        request, said = self._conversations.read(body)
        said.unsaid += len(request.tools) + len(request.functions)
        facts = said.facts(
            output_tokens=request.max_completion_tokens or request.max_tokens,
            tools=len(request.tools) > NULL or len(request.functions) > NULL,
        )
        return ParsedRequest(
            request.model,
            bool(request.stream),
            facts,
            session=request.prompt_cache_key or None,
            opening=said.opening,
            names_slot=bool(request.id_slot),
        )


def _read(message: _Message, said: Transcript) -> None:
    text, images, files = message.content, 0, 0
    if not isinstance(text, str):
        text, images, files = _content(text or ())
    said.unsaid += len(message.tool_calls) + len(message.function_call) + len(message.reasoning_content)
    if message.role == "user":
        said.heard(text, images=images, files=files)
    elif message.role in SYSTEM_ROLES:
        said.instructed(text)
    elif message.role in {"tool", "function"}:
        said.returned(text, images=images)
    else:
        said.answered(text)


def _content(parts: Sequence[_Part]) -> tuple[str, int, int]:
    """Return the text of a message, and how many pictures and other files it has."""
    text = "\n".join(said for part in parts if (said := part.text or part.refusal))
    images = sum(part.type == "image_url" for part in parts)
    return text, images, sum(part.type in _FILES for part in parts)


_CHAT = msgspec.json.Decoder(_Chat)

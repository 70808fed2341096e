"""OpenAI's chat completions. Source: platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

import msgspec

from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.openai import Openai
from llmstack.router.dialects.reading import ABSENT, NULL, SYSTEM_ROLES, Transcript, decode

_FILES = frozenset(("input_audio", "file"))


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

    def parse(self, body: bytes) -> ParsedRequest:
        """Read messages, tools and limits."""
        request = decode(body, _CHAT)
        said = Transcript(unsaid=len(request.tools) + len(request.functions))
        for message in request.messages:
            _read(message, said)
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
    text, images, files = _content(message.content)
    said.unsaid += len(message.tool_calls) + len(message.function_call) + len(message.reasoning_content)
    if message.role in SYSTEM_ROLES:
        said.instructed(text)
    elif message.role == "user":
        said.heard(text, images=images, files=files)
    elif message.role in {"tool", "function"}:
        said.returned(text, images=images)
    else:
        said.answered(text)


def _content(content: str | list[_Part] | None) -> tuple[str, int, int]:
    """Return the text of a message, and how many pictures and other files it has."""
    if content is None or isinstance(content, str):
        return content or "", 0, 0
    text = "\n".join(said for part in content if (said := part.text or part.refusal))
    images = sum(part.type == "image_url" for part in content)
    return text, images, sum(part.type in _FILES for part in content)


_CHAT = msgspec.json.Decoder(_Chat)

"""OpenAI's embeddings, and llama.cpp's of the same shape. Source: platform.openai.com/docs/api-reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from llmstack.policy.facts import RequestFacts
from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.openai import Openai
from llmstack.router.dialects.parsing import decode, sizes
from llmstack.router.dialects.stream import TrustingWatch

if TYPE_CHECKING:
    from llmstack.router.dialects.base import StreamWatch


class _Embeddings(msgspec.Struct):
    input: str | list[Any] | None = None
    content: str | list[Any] | None = None  # llama.cpp's name for it
    model: str | None = None


class Embeddings(Openai):
    """`/v1/embeddings`."""

    slots = False

    def parse(self, body: bytes) -> ParsedRequest:
        """Read the inputs. Each is read for itself, so the longest one decides what holds them."""
        request = decode(body, _EMBEDDINGS)
        size = max(sizes(request.input if request.input is not None else request.content), default=0)
        facts = RequestFacts(conversation_tokens=size, context_tokens=size, task="embedding")
        return ParsedRequest(request.model, stream=False, facts=facts)

    def watch(self) -> StreamWatch:
        """Return what lets everything pass: these answers come whole."""
        return TrustingWatch()


_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)

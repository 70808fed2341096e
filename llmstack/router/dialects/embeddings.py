"""OpenAI's embeddings, and llama.cpp's of the same shape. Source: platform.openai.com/docs/api-reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from llmstack.policy.facts import RequestFacts
from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.openai import Openai
from llmstack.router.dialects.parsing import decode, input_tokens
from llmstack.router.dialects.stream import TrustingWatch

if TYPE_CHECKING:
    from llmstack.router.dialects.base import StreamWatch


class _Embeddings(msgspec.Struct):
    input: str | list[Any] | None = None
    content: str | list[Any] | None = None  # llama.cpp's name of `input`
    model: str | None = None


class Embeddings(Openai):
    """`/v1/embeddings`."""

    accepts_slot = False

    def parse(self, body: bytes) -> ParsedRequest:
        """Read the inputs. The model reads each on its own, so the longest one must fit."""
        request = decode(body, _EMBEDDINGS)
        size = max(input_tokens(request.input if request.input is not None else request.content), default=0)
        facts = RequestFacts(conversation_tokens=size, context_tokens=size, task="embedding")
        return ParsedRequest(request.model, stream=False, facts=facts)

    def watch(self) -> StreamWatch:
        """Return a watch that passes everything: these answers are not streamed."""
        return TrustingWatch()


_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)

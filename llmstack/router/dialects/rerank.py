"""Reranking as Jina, Cohere and llama.cpp have it. Source: llama.cpp tools/server/README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from llmstack.policy.facts import RequestFacts, tokens
from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.openai import Openai
from llmstack.router.dialects.parsing import decode
from llmstack.router.dialects.stream import TrustingWatch

if TYPE_CHECKING:
    from llmstack.router.dialects.base import StreamWatch


class _Document(msgspec.Struct):
    text: str = ""


class _Rerank(msgspec.Struct):
    query: str = ""
    documents: list[str | _Document] = []
    texts: list[str] = []  # text-embeddings-inference's name for them
    model: str | None = None


class Rerank(Openai):
    """`/v1/rerank` and its other names."""

    accepts_slot = False

    def parse(self, body: bytes) -> ParsedRequest:
        """Read query and documents. The model reads each document with the query, apart from the others."""
        request = decode(body, _RERANK)
        lengths = [len(item) if isinstance(item, str) else len(item.text) for item in request.documents]
        lengths += map(len, request.texts)
        size = tokens(len(request.query) + max(lengths, default=0))
        facts = RequestFacts(conversation_tokens=size, context_tokens=size, task="rerank")
        return ParsedRequest(request.model, stream=False, facts=facts)

    def watch(self) -> StreamWatch:
        """Return a watch that passes everything: these answers are not streamed."""
        return TrustingWatch()


_RERANK = msgspec.json.Decoder(_Rerank)

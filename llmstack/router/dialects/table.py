"""The dialect of each path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.router.dialects.chat import OpenaiChat
from llmstack.router.dialects.completions import OpenaiCompletion
from llmstack.router.dialects.embeddings import Embeddings
from llmstack.router.dialects.infill import Infill
from llmstack.router.dialects.messages import CountTokens, Messages
from llmstack.router.dialects.rerank import Rerank
from llmstack.router.dialects.responses import Responses

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from llmstack.router.dialects.base import Dialect


def dialects() -> dict[str, Dialect]:
    """Return the dialects by path, for the paths that `auto` serves."""
    chat, responses, embeddings, rerank = OpenaiChat(), Responses(), Embeddings(), Rerank()
    return {
        "/v1/chat/completions": chat,
        "/chat/completions": chat,
        "/v1/completions": OpenaiCompletion(),
        "/v1/responses": responses,
        "/responses": responses,
        "/v1/embeddings": embeddings,
        "/embeddings": embeddings,
        "/embedding": embeddings,
        "/v1/messages": Messages(),
        "/v1/messages/count_tokens": CountTokens(),
        "/infill": Infill(),
        "/v1/rerank": rerank,
        "/rerank": rerank,
        "/v1/reranking": rerank,
        "/reranking": rerank,
    }


def guess_dialect(fields: Mapping[str, Any]) -> Dialect:
    """Return the API that a body is most likely meant for if its path is not known."""
    if "query" in fields:
        return Rerank()
    if "input_prefix" in fields or "input_suffix" in fields:
        return Infill()
    if "input" in fields:
        return Responses()
    if "prompt" in fields:
        return OpenaiCompletion()
    return Messages() if "system" in fields else OpenaiChat()

"""OpenAI's completions. Source: platform.openai.com/docs/api-reference/completions."""

from __future__ import annotations

from typing import Any

import msgspec

from llmstack.policy.facts import RequestFacts, tokens, without_harness
from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.openai import Openai
from llmstack.router.dialects.parsing import ABSENT, decode, input_tokens


class _Completion(msgspec.Struct):
    prompt: str | list[Any] | None = None
    suffix: str | None = None
    model: str | None = None
    stream: bool | None = None
    id_slot: msgspec.Raw = ABSENT
    max_tokens: int | None = None


class OpenaiCompletion(Openai):
    """`/v1/completions`."""

    def parse(self, body: bytes) -> ParsedRequest:
        """Read the prompt: a string, several, or token numbers."""
        request = decode(body, _COMPLETION)
        size = sum(input_tokens(request.prompt)) + tokens(len(request.suffix or ""))
        facts = RequestFacts(
            conversation_tokens=size,
            context_tokens=size,
            user_turns=1,
            last_words=without_harness(_last(request.prompt)),
            output_tokens=max(0, request.max_tokens or 0),
            task="infill" if request.suffix else "chat",
        )
        return ParsedRequest(request.model, bool(request.stream), facts, has_slot=bool(request.id_slot))


def _last(prompt: str | list[Any] | None) -> str:
    if isinstance(prompt, list):
        prompt = prompt[-1] if prompt else None
    return prompt if isinstance(prompt, str) else ""


_COMPLETION = msgspec.json.Decoder(_Completion)

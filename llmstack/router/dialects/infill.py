"""llama.cpp's `/infill`: code between a prefix and a suffix. Source: llama.cpp tools/server/README.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from llmstack.policy.facts import RequestFacts, tokens
from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.openai import Openai
from llmstack.router.dialects.parsing import ABSENT, decode
from llmstack.router.dialects.stream import EndWatch

if TYPE_CHECKING:
    from llmstack.router.dialects.base import StreamWatch

_STOP = re.compile(rb'"stop"\s*:\s*true|[\r\n](?:data|error): ?(?:\{\s*"error"\s*:\s*[^\sn]|(\[DONE\]))')
_HINTS = (b'"stop":true', b'"stop": true', b'"error"', b"[DONE]")


class _Extra(msgspec.Struct):
    text: str = ""


class _Infill(msgspec.Struct):
    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: list[_Extra] = []
    prompt: str | None = None
    model: str | None = None
    stream: bool | None = None
    id_slot: msgspec.Raw = ABSENT
    n_predict: int | None = None


class Infill(Openai):
    """`/infill`. Its text is code, so none of it is meant for the router."""

    def parse(self, body: bytes) -> ParsedRequest:
        """Read the code around the gap."""
        request = decode(body, _INFILL)
        around = len(request.input_prefix) + len(request.input_suffix) + len(request.prompt or "")
        size = tokens(around + sum(len(extra.text) for extra in request.input_extra))
        facts = RequestFacts(
            conversation_tokens=size,
            context_tokens=size,
            output_tokens=max(0, request.n_predict or 0),
            task="infill",
        )
        return ParsedRequest(request.model, bool(request.stream), facts, has_slot=bool(request.id_slot))

    def watch(self) -> StreamWatch:
        """Return a watch that waits for the last event."""
        return EndWatch(_STOP, _HINTS, "timings")


_INFILL = msgspec.json.Decoder(_Infill)

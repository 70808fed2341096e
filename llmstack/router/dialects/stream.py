"""Looking at a stream as it passes: whether it ends as it should, and what it says of its tokens."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

import msgspec

from llmstack.router.dialects.base import Usage

# `usage` holds numbers and objects of numbers, Anthropic's `iterations` objects of such objects; inside a
# string of JSON the quotes would be escaped.
_OBJECT = rb"\s*:\s*(\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})"
_MEMBERS = {
    name: (f'"{name}"'.encode(), re.compile(f'"{name}"'.encode() + _OBJECT)) for name in ("usage", "timings")
}

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None


class _Said(msgspec.Struct):
    """What the APIs call the tokens of an answer."""

    # chat, completions, embeddings
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    # responses, messages
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    input_tokens_details: _Details | None = None
    # messages: not part of `input_tokens`
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    # LiteLLM's, of a stream
    cost: Any = None
    # llama.cpp's `timings`
    cache_n: _Count | None = None
    prompt_n: _Count | None = None
    predicted_n: _Count | None = None


class _Answer(msgspec.Struct):
    usage: _Said | None = None
    timings: _Said | None = None


_SAID = msgspec.json.Decoder(_Said)
_ANSWER = msgspec.json.Decoder(_Answer)


def usage_in(answer: bytes) -> Usage | None:
    """Return what a whole answer says of its tokens; None where it says nothing."""
    try:
        found = _ANSWER.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    said = found.usage or found.timings
    return _usage(said, None) if said is not None else None


def counted(answer: bytes) -> Usage | None:
    """Return the tokens of an answer that is nothing but their number."""
    try:
        return _usage(_SAID.decode(answer), None)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _usage(said: _Said, before: Usage | None) -> Usage | None:
    """Return the tokens that were said; what was not keeps what an earlier event said."""
    prompt, completion, cached = said.prompt_tokens, said.completion_tokens, None
    if prompt is not None and completion is not None:  # Google counts thoughts in the total alone
        completion = max(completion, (said.total_tokens or 0) - prompt)
    details = said.prompt_tokens_details or said.input_tokens_details
    if details is not None:
        cached = details.cached_tokens
    if prompt is None and said.input_tokens is not None:
        cached = said.cache_read_input_tokens if cached is None else cached
        prompt = said.input_tokens + (said.cache_read_input_tokens or 0)
        prompt += said.cache_creation_input_tokens or 0
    if prompt is None and said.prompt_n is not None:
        cached, completion = said.cache_n, said.predicted_n
        prompt = said.prompt_n + (cached or 0)
    completion = said.output_tokens if completion is None else completion
    if prompt is None and completion is None:
        return before
    known = before or Usage(0, 0)
    if prompt is None:
        prompt, cached = known.prompt, known.cached
    if completion is None:
        completion = known.completion
    return Usage(prompt, completion, cached or 0, dollars(said.cost) or known.cost_usd)


def dollars(said: Any) -> float:
    """Return what something costs, in US dollars, as a header or a member says it; 0 where it is no price."""
    if said is None:
        return 0.0
    try:
        cost = float(said)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return cost if cost > 0 and math.isfinite(cost) else 0.0


class EndWatch:
    """Waits for the event that ends an answer, and holds back a closing mark that comes without one.

    Clients take `[DONE]` for the end, and loop or keep half an answer where nothing ended it before.

    Args:
        end: what stands in the event that ends an answer, properly or with an error; group 1 is the closing
            mark.
        hints: one of them stands in every such event; looking for bytes is ten times as fast as for `end`.
        member: where events say their tokens.
    """

    def __init__(
        self,
        end: re.Pattern[bytes],
        hints: tuple[bytes, ...],
        member: Literal["usage", "timings"] = "usage",
    ) -> None:
        self.complete = False
        self.usage: Usage | None = None
        name, self._object = _MEMBERS[member]
        self._end = end
        self.marks: tuple[bytes, ...] = (*hints, name)
        self._held = False

    def feed(self, events: bytes) -> bytes:
        """Return what may be passed on: all of it, or what stands before an early closing mark."""
        if self._held:
            return b""
        if not any(map(events.count, self.marks)):
            return events
        self._note_usage(events)
        if self.complete:
            return events
        found = self._end.search(b"\n" + events)  # each begins a line
        if found is None:
            return events
        if found[1] is not None:
            self._held, self.marks = True, (b"\n",)  # which stands in all of them
            return events[: found.start()]
        self.complete = True
        return events

    def _note_usage(self, events: bytes) -> None:
        for found in self._object.finditer(events):
            try:
                self.usage = _usage(_SAID.decode(found[1]), self.usage)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # what is no usage counts for none


class TrustingWatch:
    """Takes every end for a proper one: of APIs whose end the router does not know."""

    complete = True
    usage: Usage | None = None
    marks = (b'"error"',)  # which may hold a key that nobody is shown

    def feed(self, events: bytes) -> bytes:
        """Return all of them."""
        return events

"""Watching a stream as it passes: whether it ends properly, and how many tokens it reports."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

import msgspec

from llmstack.router.dialects.base import Usage
from llmstack.units import KB

# `usage` holds numbers and objects of numbers, Anthropic's `iterations` objects of such objects.
# Inside a JSON string the quotes would be escaped. Possessive, so that nothing is kept for going back: on
# hostile text that takes 150 times the memory of the text, and a second for each megabyte.
_OBJECT = rb"\s*+:\s*+(\{(?:[^{}]++|\{(?:[^{}]++|\{[^{}]*+\})*+\})*+\})"
_MEMBERS = {
    name: (f'"{name}"'.encode(), re.compile(f'"{name}"'.encode() + _OBJECT)) for name in ("usage", "timings")
}

_MAX_SCANNED_BYTES = 512 * KB  # of an event or a whole answer, which takes some 10 ms; of a larger one
_SAMPLE_BYTES = 16 * KB  # only so much at its start and at its end is searched for marks and tokens
_EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None


class _UsageFields(msgspec.Struct):
    """The names that the APIs have for the tokens of an answer."""

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
    usage: _UsageFields | None = None
    timings: _UsageFields | None = None


_USAGE_FIELDS = msgspec.json.Decoder(_UsageFields)
_ANSWER = msgspec.json.Decoder(_Answer)
_NOTHING = re.compile(rb"(?!)")


def usage_in(answer: bytes) -> Usage | None:
    """Return the tokens that a whole answer reports; None if it reports none."""
    if len(answer) > _MAX_SCANNED_BYTES:
        watch = EndWatch(_NOTHING, ())
        watch.feed(_sample(answer))
        return watch.usage
    try:
        decoded = _ANSWER.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    fields = decoded.usage or decoded.timings
    return _usage(fields, None) if fields is not None else None


def token_count(answer: bytes) -> Usage | None:
    """Return the tokens of an answer that consists of their number alone."""
    try:
        return _usage(_USAGE_FIELDS.decode(answer), None)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _usage(fields: _UsageFields, previous: Usage | None) -> Usage | None:
    """Return the reported tokens; a number that is missing keeps the value of an earlier event."""
    prompt, completion, cached = fields.prompt_tokens, fields.completion_tokens, None
    if prompt is not None and completion is not None:  # Google counts thoughts only in the total
        completion = max(completion, (fields.total_tokens or 0) - prompt)
    details = fields.prompt_tokens_details or fields.input_tokens_details
    if details is not None:
        cached = details.cached_tokens
    if prompt is None and fields.input_tokens is not None:
        cached = fields.cache_read_input_tokens if cached is None else cached
        prompt = fields.input_tokens + (fields.cache_read_input_tokens or 0)
        prompt += fields.cache_creation_input_tokens or 0
    if prompt is None and fields.prompt_n is not None:
        cached, completion = fields.cache_n, fields.predicted_n
        prompt = fields.prompt_n + (cached or 0)
    completion = fields.output_tokens if completion is None else completion
    if prompt is None and completion is None:
        return previous
    previous = previous or Usage(0, 0)
    if prompt is None:
        prompt, cached = previous.prompt, previous.cached
    if completion is None:
        completion = previous.completion
    return Usage(prompt, completion, cached or 0, dollars(fields.cost) or previous.cost_usd)


def dollars(value: Any) -> float:
    """Return a price in US dollars from the value of a header or a member; 0 if it is not a price."""
    if value is None:
        return 0.0
    try:
        cost = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return cost if cost > 0 and math.isfinite(cost) else 0.0


def _sample(text: bytes) -> bytes:
    """Return start and end of a long text."""
    return text[:_SAMPLE_BYTES] + text[-_SAMPLE_BYTES:]


class EndWatch:
    """Waits for the event that ends an answer, and holds back a closing mark that comes without one.

    Clients take `[DONE]` for the end: they loop or keep half an answer if no finish reason came before it.

    Args:
        end: matches the event that ends an answer, properly or with an error; group 1 is the closing mark.
        hints: every such event holds one of them; they are found much faster than `end`.
        member: the member of an event that reports tokens.
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
        self._hints = (*hints, name)
        self._closed_early = False

    def must_see(self, events: bytes) -> bool:
        """Return whether these events matter to `feed`."""
        if self._closed_early:
            return True
        # For every token: with `in` and `any`, both slow here (CPython 3.11), a stream takes a fifth more.
        for hint in self._hints:  # noqa: SIM110
            if events.rpartition(hint)[1]:
                return True
        return False

    def feed(self, events: bytes) -> bytes:
        """Return what may be passed on: all events, or those before an early closing mark."""
        if self._closed_early:
            return b""
        if len(events) > _MAX_SCANNED_BYTES:
            return self._feed_large(events)
        return self._scan(events)

    def _scan(self, events: bytes) -> bytes:
        if not self.must_see(events):
            return events
        self._note_usage(events)
        if self.complete:
            return events
        match = self._end.search(b"\n" + events)  # each event starts a line
        if match is None:
            return events
        if match[1] is not None:
            self._closed_early = True
            return events[: match.start()]
        self.complete = True
        return events

    def _feed_large(self, events: bytes) -> bytes:
        """Feed events of which the first may be large: only its start and its end are searched."""
        ends = [at + len(mark) for mark in _EVENT_ENDS if (at := events.find(mark)) >= 0]
        end = min(ends, default=len(events))
        if end <= _MAX_SCANNED_BYTES:
            return self._scan(events)
        sample = _sample(events[:end])
        if len(self._scan(sample)) < len(sample):
            return b""
        return events if end == len(events) else events[:end] + self._scan(events[end:])

    def _note_usage(self, events: bytes) -> None:
        for match in self._object.finditer(events):
            try:
                self.usage = _usage(_USAGE_FIELDS.decode(match[1]), self.usage)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # not a usage object


class TrustingWatch:
    """Takes every end for a proper one: for APIs whose last event the router does not know."""

    complete = True
    usage: Usage | None = None

    def must_see(self, events: bytes) -> bool:
        """Return whether these events may hold an error, which may repeat a key."""
        return b'"error"' in events

    def feed(self, events: bytes) -> bytes:
        """Return all events."""
        return events

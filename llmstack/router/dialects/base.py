"""One client API: how to read its requests, and how to format its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from llmstack.policy.facts import RequestFacts
    from llmstack.serving.errors import FailureReport, Origin


class ParsedRequest(msgspec.Struct, frozen=True, gc=False):
    """What the router needs to know about a request.

    Attributes:
        model: as the client sent it; None if it is missing.
        stream: the client wants server-sent events.
        facts: what the decision depends on.
        session_name: the client's name for the conversation, from the body; None if it sent none.
        opening: digest of the part that a conversation keeps while it grows, the system prompt and the first
            message of the human; empty if there is neither.
        has_slot: the body has an `id_slot` of its own.
    """

    model: str | None
    stream: bool
    facts: RequestFacts
    session_name: str | None = None
    opening: str = ""
    has_slot: bool = False


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one answer, as its server counted them.

    Attributes:
        prompt: tokens of the prompt, those from a cache included.
        completion: tokens of the answer.
        cached: tokens of the prompt that came from a cache.
        cost_usd: their price; 0 if it is not known. LiteLLM reports it in the last event of a stream.
    """

    prompt: int
    completion: int
    cached: int = 0
    cost_usd: float = 0.0


class BadRequestError(Exception):
    """The body is not a request of this API; the text says what was expected, and where."""


class StreamWatch(Protocol):
    """Watches one stream as it passes: whether it ends properly."""

    @property
    def complete(self) -> bool:
        """Whether the answer ended properly."""

    @property
    def usage(self) -> Usage | None:
        """The tokens that the stream reported so far."""

    def must_see(self, events: bytes) -> bool:
        """Return whether `feed` must get these events; all others may be passed on as they are."""

    def feed(self, events: bytes) -> bytes:
        """Return the events that may be passed on; a closing mark before a proper end may not."""


class Dialect(Protocol):
    """One client API."""

    @property
    def accepts_slot(self) -> bool:
        """Whether llama.cpp accepts a top-level `id_slot` in such a body."""

    def parse(self, body: bytes) -> ParsedRequest:
        """Return what the decision depends on.

        Raises:
            BadRequestError: malformed JSON or wrong types.
        """

    def error(self, report: FailureReport) -> bytes:
        """Return the body of an HTTP error."""

    def server_error(self, status: int, body: bytes, origin: Origin) -> bytes:
        """Return a server's error in the form of this API; unchanged if it has that form."""

    def error_event(self, report: FailureReport) -> bytes:
        """Return the server-sent event that ends a stream that failed."""

    def watch(self) -> StreamWatch:
        """Return a watch for a new stream."""

    def usage(self, answer: bytes) -> Usage | None:
        """Return the tokens that a whole answer reports; None if it reports none."""

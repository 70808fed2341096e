"""One client API: what its requests say, and how its errors and cut streams look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

    from llmstack.policy.facts import RequestFacts
    from llmstack.serving.errors import FailureReport, Origin


class ParsedRequest(msgspec.Struct, frozen=True, gc=False):
    """What the router needs to know of a request.

    Attributes:
        model: as the client sent it; None where it is absent.
        stream: the client wants server-sent events.
        facts: for the decision.
        session: the conversation it says it belongs to; None where the body names none.
        opening: digest of what a conversation keeps while it grows, the system prompt and the first words of
            the human; empty where there is neither.
        names_slot: the body has an `id_slot` of its own.
    """

    model: str | None
    stream: bool
    facts: RequestFacts
    session: str | None = None
    opening: str = ""
    names_slot: bool = False


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one answer, as its server counted them.

    Attributes:
        prompt: read for it, those from a cache included.
        completion: written.
        cached: of the prompt, taken from a cache.
        cost_usd: what they cost; 0 where it is not said. LiteLLM says it in the last event of a stream.
    """

    prompt: int
    completion: int
    cached: int = 0
    cost_usd: float = 0.0


class BadRequestError(Exception):
    """A body that is not a request of this API; the text says what was expected and where."""


class StreamWatch(Protocol):
    """Looks at one stream as it passes, for whether it ends as it should."""

    @property
    def complete(self) -> bool:
        """Whether the answer came to its proper end."""

    @property
    def usage(self) -> Usage | None:
        """What the stream said of its tokens so far."""

    @property
    def marks(self) -> Collection[bytes]:
        """What stands in events that `feed` has to see, one of them at least; all others may be passed on."""

    def feed(self, events: bytes) -> bytes:
        """Return what may be passed on of the next events; a closing mark before a proper end may not."""


class Dialect(Protocol):
    """One client API."""

    @property
    def slots(self) -> bool:
        """Whether llama.cpp takes a top-level `id_slot` in such a body."""

    def parse(self, body: bytes) -> ParsedRequest:
        """Read what a decision needs.

        Raises:
            BadRequestError: malformed JSON or wrong types.
        """

    def error(self, report: FailureReport) -> bytes:
        """Return the body of an HTTP error."""

    def server_error(self, status: int, body: bytes, origin: Origin) -> bytes:
        """Return a server's error as this API's clients read it: as it is, where they can."""

    def error_event(self, report: FailureReport) -> bytes:
        """Return the server-sent event that ends a stream that failed."""

    def watch(self) -> StreamWatch:
        """Return what looks at a new stream."""

    def usage(self, answer: bytes) -> Usage | None:
        """Return what a whole answer says of its tokens; None where it says nothing."""

"""What the router asks of a swapper: the right to use a model for one request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, Self

import msgspec

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from llmstack.config.model import StackConfig
    from llmstack.serving.memory.survey import Survey

State = Literal["resident", "loading", "idle", "down", "remote"]


class TierUnavailableError(LlmstackError):
    """A model cannot be used now.

    Args:
        message: what happened.
        retry_after: seconds after which a client may try again; None where trying again is no use.
        hint: the next step, where one helps.
    """

    def __init__(self, message: str, *, retry_after: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ModelState(msgspec.Struct, frozen=True):
    """What a swapper knows of one tier.

    Attributes:
        pid: of the process that serves it.
        since: seconds in this state.
        leases: requests in flight.
        waiting: requests in its queue.
        loads: times that it was started.
        detail: why it is down, where it is.
    """

    state: State
    pid: int | None = None
    port: int | None = None
    since: float = 0.0
    leases: int = 0
    waiting: int = 0
    loads: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Defaults:
    """Members that a request gets where its caller did not send them.

    Attributes:
        values: by name.
        one_of: names of which the server takes one: a default for one is dropped where the other was sent.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    one_of: frozenset[str] = frozenset()


NO_DEFAULTS = Defaults()


class Lease(Protocol):
    """The right to use a resident model for one request; the model is not evicted while it lasts.

    An async context manager: leaving it gives the lease back.
    """

    @property
    def tier(self) -> str:
        """The tier's name."""

    @property
    def model(self) -> str:
        """What its server calls the model."""

    @property
    def defaults(self) -> Defaults:
        """Sampling values of models.ini that its server does not have as flags."""

    @property
    def url(self) -> str:
        """Address of its server, without a path."""

    @property
    def slot(self) -> int | None:
        """The server's slot that keeps this conversation; None where the server chooses."""

    @property
    def kv(self) -> str:
        """What was done about the prompt cache, such as `restored 48211 tokens in 0.4 s`; empty: nothing."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What its server wants with every request, such as its key."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Credentials that its server may repeat in an error, and that nobody is shown."""

    @property
    def origin(self) -> Literal["engine", "provider"]:
        """Who fails where its server does."""

    async def failure(self) -> str | None:
        """Return why the server ended, if it did: asked after a connection broke."""

    async def explain(self, status: int, body: bytes) -> str | None:
        """Return why, where such an answer is not the server's own but of what stands before it."""

    async def __aenter__(self) -> Self:
        """Return itself."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back."""


class Swapper(Protocol):
    """Keeps the set of resident models inside what memory allows."""

    @property
    def kind(self) -> Literal["builtin", "llama-swap"]:
        """Which one it is."""

    @property
    def prompt_cache(self) -> str:
        """What becomes of prompts when a model is stopped: `on: …` or `off: …`, in words."""

    async def acquire(self, tier: str, session: str = "", *, pinned: bool = True) -> Lease:
        """Wait until a tier is resident and has a place, and return the right to use it.

        Args:
            tier: its name.
            session: the conversation, so that it finds its slot again; empty where there is none.
            pinned: the request will name the lease's slot to the server. Not every dialect of llama.cpp's
                can; then the server chooses by what its slots hold, and the lease names none.

        Raises:
            TierUnavailableError: it cannot be started, or the queue is full or too slow.
        """

    def states(self) -> Mapping[str, ModelState]:
        """Return the state of every tier it serves."""

    def state(self, tier: str) -> ModelState | None:
        """Return the state of one tier; None where it does not serve it."""

    def has_place(self, tier: str) -> bool:
        """Return whether a tier serves a request at once."""

    def resident(self) -> frozenset[str]:
        """Return the tiers that are loaded, or are being loaded."""

    async def load(self, tier: str) -> None:
        """Make a tier resident without a request."""

    async def unload(self, tier: str) -> bool:
        """Stop a tier once its requests have ended; return False where it was not resident."""

    async def reload(self, config: StackConfig, found: Survey) -> list[str]:
        """Take up an edited configuration; return in words what had to be cut for it."""

    async def close(self) -> None:
        """Stop everything."""

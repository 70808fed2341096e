"""The protocol of everything that serves a tier: `Backend.acquire` → `Lease.send` → `ServerResponse`.

A gguf tier, a LiteLLM tier, a remote server and an MCP tool are the same thing to the router.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from llmstack.config.model import StackConfig
    from llmstack.process.worker import Worker
    from llmstack.serving.errors import FailureReport
    from llmstack.serving.memory.survey import Survey
    from llmstack.upstream.client import Chunks

State = Literal["resident", "loading", "idle", "down", "remote"]


class ModelState(msgspec.Struct, frozen=True):
    """What a backend knows of one tier.

    Attributes:
        state: as `status --json` names it; `resident` means loaded.
        pid: of the process that serves it.
        since: how long it has been in this state, in seconds.
        leases: requests in flight.
        waiting: requests in its queue.
        loads: how often its model was loaded since the router started.
        detail: why it is down, if it is.
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
class SamplingDefaults:
    """Sampling values that a request gets if its client did not send them.

    Attributes:
        values: by name.
        one_of: names of which the server accepts only one: a default for one of them is dropped if the client
            sent another.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    one_of: frozenset[str] = frozenset()


NO_SAMPLING_DEFAULTS = SamplingDefaults()


class ModelRequest(msgspec.Struct, frozen=True, gc=False):
    """A client's request, ready to be sent to the server of a tier.

    Attributes:
        method: HTTP method, upper case.
        target: path and query at the server.
        headers: names in lower case; what the server itself requires is added by the lease.
        body: as the client sent it.
        model: the value of `model` in the body; None if it is absent.
        rewrites_body: `model` is set to the server's name for it and defaults are added; else the body is
            passed on unchanged.
        has_slot: the body has an `id_slot` of its own.
        format_error: returns a failure as the body of an HTTP error in the client's API.
        worker: for work on a large body or answer.
        is_large: work on the body belongs in the worker.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    model: str | None
    rewrites_body: bool
    has_slot: bool
    format_error: Callable[[FailureReport], bytes]
    worker: Worker
    is_large: bool = False


class ServerResponse(Protocol):
    """A server's response, its body still to come. A context manager: leaving it closes the response."""

    status: int
    headers: list[tuple[str, str]]

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is server-sent events."""

    def chunks(self) -> Chunks:
        """Return an iterator over the body as it arrives, which raises UpstreamError if it breaks off."""

    async def read(self, limit: int) -> bytes:
        """Return the whole body; if it is longer than `limit` bytes, its start, which is longer, too.

        What follows the start comes from `chunks`.

        Raises:
            UpstreamError: the connection broke before its end, or the body cannot be translated.
        """

    def __enter__(self) -> Self:
        """Return self."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it, whether it was read or not."""


class Lease(Protocol):
    """The right to use a tier for one request; a loaded model is not evicted while it lasts.

    An async context manager: leaving it gives the lease back.
    """

    @property
    def tier(self) -> str:
        """The tier's name."""

    @property
    def kv(self) -> str:
        """What was done about the prompt cache, such as `restored 48211 tokens in 0.4 s`; else empty."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Credentials that the server may repeat, and that no client may see."""

    @property
    def origin(self) -> Literal["engine", "provider"]:
        """Who failed if the server fails."""

    async def send(self, request: ModelRequest) -> ServerResponse:
        """Send a request and wait for the status of the response.

        Raises:
            UpstreamError: the server cannot be reached, or the connection broke.
            RequestFailedError: the request cannot be expressed in the server's API.
        """

    async def failure(self) -> str | None:
        """Return why the server ended, or None if it still runs; asked after a connection broke."""

    async def explain(self, status: int, body: bytes) -> str | None:
        """Return why a proxy in front of the server answered in its place; None if the server answered."""

    async def __aenter__(self) -> Self:
        """Return self."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back."""


class Backend(Protocol):
    """Serves every tier of one kind. Created once, whether or not such a tier exists."""

    @property
    def loads_models(self) -> bool:
        """Whether its models must be loaded into memory before they can serve."""

    async def acquire(self, tier: str, session: str = "", *, pinned: bool = True) -> Lease:
        """Wait until a tier can serve, and return the right to use it for one request.

        Args:
            tier: its name.
            session: the conversation, so that it finds its slot again; empty if there is none.
            pinned: the request will name the lease's slot to the server. Not every API of llama.cpp accepts
                one; without it the server chooses a slot by its contents, and the lease names none.

        Raises:
            TierUnavailableError: it cannot be started, its queue is full, or it took too long.
        """

    def state(self, tier: str) -> ModelState:
        """Return what is known of a tier; nothing is probed."""

    def has_free_slot(self, tier: str) -> bool:
        """Return whether a tier would serve a request at once."""

    async def load(self, tier: str) -> None:
        """Load a tier's model without a request.

        Raises:
            TierUnavailableError: it cannot be started, or there is nothing to load.
        """

    async def unload(self, tier: str) -> bool:
        """Unload a tier's model once its requests have ended; return False if it was not loaded."""

    def status(self) -> dict[str, Any] | None:
        """Return what `/llmstack/status` says of this backend; None if there is nothing to say."""

    async def reload(self, config: StackConfig, survey: Survey) -> list[str]:
        """Apply an edited configuration; return in words which requests had to be cut."""

    async def close(self) -> None:
        """Stop everything."""


class Swapper(Backend, Protocol):
    """The backend of gguf tiers: keeps the set of loaded models inside what memory allows."""

    @property
    def kind(self) -> Literal["builtin", "llama-swap"]:
        """Which swapper it is."""

    @property
    def prompt_cache(self) -> str:
        """What happens to prompt caches when a model is unloaded, in words: `saved …` or `not saved …`."""

    def states(self) -> Mapping[str, ModelState]:
        """Return the state of every tier that it serves."""

    def loaded_tiers(self) -> frozenset[str]:
        """Return the tiers whose models are loaded, or are being loaded."""

    async def acquire_loaded(self, tier: str) -> Lease:
        """Return the right to read from a loaded model: nothing is loaded, awaited, or evicted for it.

        Raises:
            RequestFailedError: the model is not loaded, or is being unloaded.
        """

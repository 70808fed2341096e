"""What the router asks of a backend whose models are not in this machine's memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from llmstack.serving.base import NO_DEFAULTS, Defaults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from llmstack.config.model import StackConfig
    from llmstack.serving.base import Lease, ModelState


class Backend(Protocol):
    """Serves every tier of one kind. Made once, whether or not there is such a tier."""

    async def acquire(self, tier: str, session: str = "") -> Lease:
        """Wait until a tier can be used, and return the right to use it once.

        Raises:
            SwapError: it cannot be used now.
        """

    def state(self, tier: str) -> ModelState:
        """Return what is known of a tier; nothing is probed."""

    def status(self) -> dict[str, Any] | None:
        """Return what `status` says of it; None where there is nothing to say."""

    async def reload(self, config: StackConfig, unavailable: Mapping[str, str]) -> list[str]:
        """Begin to serve the tiers of a configuration; return in words what had to be cut for it."""

    async def close(self) -> None:
        """Stop everything."""


@dataclass(frozen=True, slots=True)
class RemoteLease:
    """The right to use a model that somebody else runs: nothing is held, nothing given back.

    Attributes:
        tier: its name in models.ini; `model` what its server calls it.
        url: address of its server, without a path.
        headers: what its server wants with every request.
        defaults: sampling values that the caller did not send.
        ended: says why its server ended, where we would know.
        secrets: credentials, which some servers repeat in their errors.
    """

    tier: str
    model: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    defaults: Defaults = NO_DEFAULTS
    slot: int | None = None
    kv: str = ""
    origin: Literal["provider"] = "provider"
    ended: Callable[[], str | None] = lambda: None
    secrets: tuple[str, ...] = ()

    async def failure(self) -> str | None:
        """Return why its server ended, if it is one of ours and did."""
        return self.ended()

    async def explain(self, status: int, body: bytes) -> str | None:  # noqa: ARG002 - of the Protocol
        """Every answer is its own."""
        return None

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is to give back."""

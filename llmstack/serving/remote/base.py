"""What the backends share whose models somebody else keeps in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from llmstack.serving.errors import TierUnavailableError

if TYPE_CHECKING:
    from types import TracebackType

    from llmstack.serving.base import ModelState

# The APIs that translations exist for, by the client's path.
API_OF_PATH: dict[str, Literal["chat", "messages", "responses"]] = {
    "/v1/chat/completions": "chat",
    "/chat/completions": "chat",
    "/v1/messages": "messages",
    "/v1/responses": "responses",
    "/responses": "responses",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLease:
    """The right to use a model that somebody else runs: nothing is held, nothing is given back.

    Attributes:
        tier: its name in models.ini; `model` is the server's name for the model.
        secrets: credentials, which some servers repeat in their errors.
    """

    tier: str
    model: str
    kv: str = ""
    origin: Literal["provider"] = "provider"
    secrets: tuple[str, ...] = ()

    async def failure(self) -> str | None:
        """Return None: we do not know why somebody else's server ended."""
        return None

    async def explain(self, status: int, body: bytes) -> str | None:  # noqa: ARG002 - part of the protocol
        """Return None: every response is the server's own."""
        return None

    async def __aenter__(self) -> Self:
        """Return self."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is given back."""


class RemoteBackend(ABC):
    """The part of a `Backend` that is the same for all of them: there is nothing to load."""

    loads_models = False

    @abstractmethod
    def state(self, tier: str) -> ModelState:
        """Return what is known of a tier; nothing is probed."""

    def has_free_slot(self, tier: str) -> bool:
        """Return whether a tier would serve a request at once."""
        return self.state(tier).state in {"remote", "resident"}

    async def load(self, tier: str) -> None:
        """Refuse: nothing can be loaded here.

        Raises:
            TierUnavailableError: always.
        """
        raise TierUnavailableError(f"{tier} has no model to load: it is served elsewhere")

    async def unload(self, tier: str) -> bool:  # noqa: ARG002 - part of the protocol
        """Return False: nothing was loaded."""
        return False

"""What can go wrong between us and a provider. No text here ever holds a credential."""

from __future__ import annotations

from llmstack.errors import LlmstackError


class ProviderError(LlmstackError):
    """A provider could not do what it was asked.

    Args:
        message: what happened, naming the provider or the address.
        provider: its prefix, such as `anthropic`; empty where it is not known yet.
        hint: the next step, where one helps.
    """

    transient = False
    """Whether the same request may well succeed a moment later."""

    def __init__(self, message: str, *, provider: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.provider = provider


class UnknownModelError(ProviderError):
    """A name that says neither a provider nor a model."""


class OwnAddressError(ProviderError):
    """The address is that of our own router, which would call itself."""


class MissingKeyError(ProviderError):
    """The variable that holds the provider's key is not set."""


class UnsupportedParameterError(ProviderError):
    """Strict mode: the model does not take a parameter that was given."""


class ProviderUnreachableError(ProviderError):
    """Nobody answers at the address, or the program cannot be run."""

    transient = True


class TimedOutError(ProviderError):
    """The answer did not come in time."""


class RateLimitedError(ProviderError):
    """Too many requests, or no quota left.

    Attributes:
        retry_after: seconds after which the provider said to try again; None where it did not say.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        hint: str | None = None,
        retry_after: float | None = None,
        transient: bool = True,
    ) -> None:
        super().__init__(message, provider=provider, hint=hint)
        self.retry_after = retry_after
        self.transient = transient


class RejectedError(ProviderError):
    """The provider refuses this request: trying it again is no use.

    Attributes:
        status: the HTTP status; None where there was none (MCP).
    """

    def __init__(
        self, message: str, *, provider: str = "", hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, provider=provider, hint=hint)
        self.status = status


class MalformedResponseError(ProviderError):
    """The provider itself failed: a 5xx, an answer that was cut, or one that makes no sense.

    Attributes:
        status: the HTTP status; None where it broke later.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        hint: str | None = None,
        status: int | None = None,
        transient: bool = True,
    ) -> None:
        super().__init__(message, provider=provider, hint=hint)
        self.status = status
        self.transient = transient

"""Errors of calls to providers. No text here ever holds a credential."""

from __future__ import annotations

from llmstack.errors import LlmstackError


class ProviderError(LlmstackError):
    """A call to a provider failed.

    Args:
        message: what happened, naming the provider or the address.
        provider: its prefix, such as `anthropic`; empty if it is not known yet.
        hint: the next step, if one helps.
    """

    transient = False
    """Whether the same request may succeed a moment later."""

    def __init__(self, message: str, *, provider: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.provider = provider


class UnknownModelError(ProviderError):
    """The name identifies no provider, or no model of it."""


class OwnAddressError(ProviderError):
    """The address is the router's own: the router would call itself."""


class MissingKeyError(ProviderError):
    """The variable that holds the provider's key is not set."""


class UnsupportedParameterError(ProviderError):
    """Strict mode: the model does not accept a parameter of the call."""


class ProviderUnreachableError(ProviderError):
    """Nothing answers at the address, or the program cannot be run."""

    transient = True


class TimedOutError(ProviderError):
    """The response did not arrive in time."""


class RateLimitedError(ProviderError):
    """Too many requests, or the quota is used up.

    Attributes:
        retry_after: seconds that the provider asks to wait; None if it does not say.
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
    """The provider rejects this request, and would reject it again.

    Attributes:
        status: the HTTP status; None if there was none (MCP).
    """

    def __init__(
        self, message: str, *, provider: str = "", hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, provider=provider, hint=hint)
        self.status = status


class MalformedResponseError(ProviderError):
    """The provider failed: a 5xx status, or a response that is cut off or malformed.

    Attributes:
        status: the HTTP status; None if the failure came after the headers.
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

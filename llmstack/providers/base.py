"""The request and the result of a model call, the same for every provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

MAX_TOKENS = 4096
TIMEOUT_S = 600.0
RETRIES = 2


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """Tokens of one call; 0 if the provider did not report them."""

    input: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        """Input and output tokens together."""
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one call.

    Attributes:
        output: the model's text.
        model: name of the model that wrote it, as the provider reports it.
        provider: prefix of the provider, such as `anthropic`.
        stop_reason: `stop`, `length` (the output is not complete), `content_filter`, `tool_calls`.
    """

    output: str
    model: str
    provider: str
    tokens_used: TokensUsed = field(default_factory=TokensUsed)
    stop_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """The input of one call.

    Attributes:
        messages: of a chat completion.
        max_tokens: maximum length of the output.
        temperature: not sent if None.
        reasoning_effort: `low`, `medium`, `high` …; not sent if None.
    """

    messages: Sequence[Mapping[str, Any]]
    max_tokens: int = MAX_TOKENS
    temperature: float | None = None
    reasoning_effort: str | None = None

    @classmethod
    def from_prompt(
        cls,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        max_tokens: int = MAX_TOKENS,
        temperature: float | None = None,
        system: str | None = None,
        reasoning_effort: str | None = None,
    ) -> PromptRequest:
        """Return the request for a prompt or for the messages of a conversation."""
        system_messages = [{"role": "system", "content": system}] if system else []
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return cls([*system_messages, *messages], max_tokens, temperature, reasoning_effort)

    @property
    def optional_parameters(self) -> dict[str, Any]:
        """The optional parameters that the caller set."""
        parameters = {"temperature": self.temperature, "reasoning_effort": self.reasoning_effort}
        return {name: value for name, value in parameters.items() if value is not None}


class ModelSource(Protocol):
    """Calls one model. Belongs to one event loop at a time; `close` ends what it keeps open there."""

    @property
    def provider(self) -> str:
        """Prefix of the provider, such as `anthropic`."""

    @property
    def model(self) -> str:
        """The model's full name; empty if the server chooses the model."""

    async def answer(self, request: PromptRequest) -> Result:
        """Return the result of a call.

        Raises:
            ProviderError: the call failed.
        """

    def stream(self, request: PromptRequest) -> AsyncGenerator[str | Result]:
        """Yield the output piece by piece as it arrives, and the result last.

        Raises:
            ProviderError: the call failed.
        """

    async def close(self) -> None:
        """End connections and processes that calls left open."""

"""What a model is asked, and what comes back: the same for every provider."""

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
    """Tokens of one call; 0 where the provider did not say."""

    input: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Result:
    """One answer.

    Attributes:
        output: its text.
        model: as the provider calls the model that wrote it.
        provider: its prefix, such as `anthropic`.
        stop_reason: `stop`, `length` (the answer is not complete), `content_filter`, `tool_calls`.
    """

    output: str
    model: str
    provider: str
    tokens_used: TokensUsed = field(default_factory=TokensUsed)
    stop_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class Ask:
    """One question.

    Attributes:
        messages: of a chat completion.
        max_tokens: of the answer.
        temperature: not sent where it is None.
        reasoning_effort: `low`, `medium`, `high` …; not sent where it is None.
    """

    messages: Sequence[Mapping[str, Any]]
    max_tokens: int = MAX_TOKENS
    temperature: float | None = None
    reasoning_effort: str | None = None

    @classmethod
    def of(
        cls,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        max_tokens: int = MAX_TOKENS,
        temperature: float | None = None,
        system: str | None = None,
        reasoning_effort: str | None = None,
    ) -> Ask:
        """Return the question that a prompt, or a whole conversation, makes."""
        told = [{"role": "system", "content": system}] if system else []
        said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return cls([*told, *said], max_tokens, temperature, reasoning_effort)

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that the caller gave."""
        given = {"temperature": self.temperature, "reasoning_effort": self.reasoning_effort}
        return {name: value for name, value in given.items() if value is not None}


class Source(Protocol):
    """Where answers come from. Used inside one event loop; `close` ends what it holds there."""

    @property
    def provider(self) -> str:
        """Its prefix."""

    @property
    def model(self) -> str:
        """The model's full name; empty where the source chooses."""

    async def answer(self, ask: Ask) -> Result:
        """Return a whole answer; ProviderError where there is none."""

    def pieces(self, ask: Ask) -> AsyncGenerator[str | Result]:
        """Yield the text as it comes, and the whole answer last."""

    async def close(self) -> None:
        """End what it holds: connections, a process."""

"""When another tier serves in place of one that cannot. Pure, but for the clock it is given."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from llmstack.providers.translation.failures import retry_after
from llmstack.router.dialects.base import RequestFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmstack.router.dialects.base import FailureReport

LITELLM_PREFIX = "llm_provider-"  # what LiteLLM puts before the names of a provider's headers
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
LONGEST_ASKED_S = 3600.0  # a provider's Retry-After above that is taken for that

Kind = Literal["context", "limited", "refused", "broken"]

# How servers say that a request is longer than their window: llama.cpp, OpenAI, Anthropic, vLLM, Ollama.
_CONTEXT_SIGNS = (
    b"exceed_context_size",
    b"context_length_exceeded",
    b"exceeds the available context size",
    b"prompt is too long",
    b"maximum context length",
    b"exceeds context length",
    b"longer than the maximum model length",
    b"input length and `max_tokens` exceed context limit",
)
# How they say that the account cannot pay: a 400 or 429 whose repetition is no use.
# `billing` alone may be the name of a tool that a request is refused for.
_CREDIT_SIGNS = (
    b"insufficient_quota",
    b"credit balance is too low",
    b"billing_hard_limit_reached",
    b"billing_not_active",
    b"enable billing",
)
_ERROR_STARTS = (
    b'data: {"error"',
    b'data:{"error"',
    b"event: error",
    b"event:error",
    b'data: {"type":"error"',
    b"event: response.failed",
)

# At a stream's beginning: what servers say while they read the prompt, or wait for another server.
_COMMENTS = re.compile(rb"\A(?:(?::[^\r\n]*)?[\r\n])*")

_BAD_REQUEST, _PAYMENT, _TOO_LARGE, _TOO_MANY, _SERVER_ERROR = 400, 402, 413, 429, 500
_CREDENTIALS = (401, 403)


class TierFailedError(RequestFailedError):
    """A tier could not serve a request of which nothing was sent yet: another one may.

    Args:
        report: what the client is told where none does.
        kind: `context` where only a larger window helps.
        brief: why, in a few words, for the reason.
        pause_s: how long it asked to be left alone; None where it said nothing.
    """

    def __init__(
        self, report: FailureReport, kind: Kind, brief: str, *, pause_s: float | None = None
    ) -> None:
        super().__init__(report)
        self.kind = kind
        self.brief = brief
        self.pause_s = pause_s


def judge(status: int, body: bytes) -> Kind | None:
    """Return what a server's error says of its tier; None where it says something of the request."""
    if (status in {_BAD_REQUEST, _TOO_LARGE} or status >= _SERVER_ERROR) and any(
        sign in body for sign in _CONTEXT_SIGNS
    ):
        return "context"
    if status in {_BAD_REQUEST, _PAYMENT, _TOO_MANY} and any(sign in body for sign in _CREDIT_SIGNS):
        return "refused"
    if status == _TOO_MANY:
        return "limited"
    if status == _PAYMENT or status in _CREDENTIALS:
        return "refused"
    return "broken" if status >= _SERVER_ERROR else None


def asked_pause(headers: Iterable[tuple[str, str]]) -> float | None:
    """Return how long a server asks to be left alone, in seconds; None where it does not say."""
    said = {name.removeprefix(LITELLM_PREFIX): value for name, value in headers}
    return retry_after(said, datetime.now(UTC))


def without_comments(first: bytes) -> bytes:
    """Return the events that a stream begins with, from the first one that says something."""
    return _COMMENTS.sub(b"", first)


def is_error_event(first: bytes) -> bool:
    """Return whether a stream begins with an error instead of content."""
    return first.lstrip().startswith(_ERROR_STARTS)


@dataclass(slots=True)
class _Rest:
    until: float
    why: str
    failures: int


@dataclass(slots=True)
class Cooldowns:
    """Tiers that failed lately, and are left alone for a while.

    The pause doubles with every failure in a row, from 5 s to 300 s; a server that says how long it wants is
    believed. A success ends it.
    """

    clock: Callable[[], float] = time.monotonic
    _resting: dict[str, _Rest] = field(default_factory=dict)

    def failed(self, tier: str, why: str, pause_s: float | None = None) -> None:
        """Note a failure of a tier."""
        before = self._resting.get(tier)
        failures = before.failures + 1 if before else 1
        pause = min(FIRST_PAUSE_S * 2 ** min(failures - 1, 10), LONGEST_PAUSE_S)
        if pause_s is not None:
            pause = min(pause_s, LONGEST_ASKED_S)
        self._resting[tier] = _Rest(self.clock() + pause, why, failures)

    def served(self, tier: str) -> None:
        """Note a success of a tier."""
        if self._resting:
            self._resting.pop(tier, None)

    def cooling(self) -> dict[str, str]:
        """Return the tiers that are left alone now, each with why and for how long."""
        if not self._resting:
            return {}
        now = self.clock()
        return {
            tier: f"{rest.why}, tried again in {rest.until - now:.0f} s"
            for tier, rest in self._resting.items()
            if rest.until > now
        }

"""When another tier serves in place of one that cannot. Pure, but for the clock that is passed in."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from llmstack.http_headers import read_retry_after
from llmstack.serving.errors import RequestFailedError
from llmstack.units import KB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmstack.serving.errors import FailureReport

LITELLM_PREFIX = "llm_provider-"  # LiteLLM puts it before the names of a provider's headers
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
LONGEST_RETRY_AFTER_S = 3600.0  # a longer Retry-After of a provider counts as this

FailureKind = Literal["context", "limited", "refused", "broken"]

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
# How they say that the account cannot pay, in a 400 or 429 that no retry helps against.
# `billing` alone may be the name of a tool for which a request is refused.
_CREDIT_SIGNS = (
    b"insufficient_quota",
    b"credit balance is too low",
    b"billing_hard_limit_reached",
    b"billing_not_active",
    b"enable billing",
)
_ERROR_EVENT_STARTS = (
    b'data: {"error"',
    b'data:{"error"',
    b"event: error",
    b"event:error",
    b'data: {"type":"error"',
    b"event: response.failed",
)

# The start of a stream: what servers send while they read the prompt, or wait for another server.
# Possessive, so that nothing is kept for going back: it would take 150 times the memory of the text.
_LEADING_COMMENTS = re.compile(rb"\A(?:(?::[^\r\n]*+)?+[\r\n])*+")
_MAX_LEADING_BYTES = 64 * KB  # more comments count as content

_CREDENTIALS_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class TierFailedError(RequestFailedError):
    """A tier could not serve a request of which nothing was sent to the client yet: another one may.

    Args:
        report: what the client is told if no other tier can.
        kind: `context` if only a larger window helps.
        brief: why, in a few words, for the reason.
        pause_s: how long the server asked for a pause; None if it did not.
    """

    def __init__(
        self, report: FailureReport, kind: FailureKind, brief: str, *, pause_s: float | None = None
    ) -> None:
        super().__init__(report)
        self.kind = kind
        self.brief = brief
        self.pause_s = pause_s


def classify_error(status: int, body: bytes) -> FailureKind | None:
    """Return what a server's error says about its tier; None if it is about the request."""
    is_server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    may_be_context = is_server_error or status in {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    }
    may_be_credit = status in {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.PAYMENT_REQUIRED,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
    if may_be_context and any(sign in body for sign in _CONTEXT_SIGNS):
        return "context"
    if may_be_credit and any(sign in body for sign in _CREDIT_SIGNS):
        return "refused"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "limited"
    if status == HTTPStatus.PAYMENT_REQUIRED or status in _CREDENTIALS_REFUSED:
        return "refused"
    return "broken" if is_server_error else None


def requested_pause(headers: Iterable[tuple[str, str]]) -> float | None:
    """Return the pause that a server asks for, in seconds; None if it does not."""
    by_name = {name.removeprefix(LITELLM_PREFIX): value for name, value in headers}
    return read_retry_after(by_name, datetime.now(UTC))


def strip_leading_comments(events: bytes) -> bytes:
    """Return the events at the start of a stream without the comments before them."""
    comments = _LEADING_COMMENTS.match(events, 0, _MAX_LEADING_BYTES)
    return events[comments.end() :] if comments is not None else events


def is_error_event(events: bytes) -> bool:
    """Return whether a stream starts with an error instead of content."""
    return events.lstrip().startswith(_ERROR_EVENT_STARTS)


@dataclass(slots=True)
class _Cooldown:
    until: float
    why: str
    failures: int


@dataclass(slots=True)
class Cooldowns:
    """Tiers that failed lately, and are not asked for a while.

    The pause doubles with every failure in a row, from 5 s to 300 s, unless the server asks for another one.
    A success ends it.
    """

    clock: Callable[[], float] = time.monotonic
    _by_tier: dict[str, _Cooldown] = field(default_factory=dict)

    def note_failure(self, tier: str, why: str, pause_s: float | None = None) -> None:
        """Note a failure of a tier."""
        previous = self._by_tier.get(tier)
        failures = previous.failures + 1 if previous else 1
        pause = min(FIRST_PAUSE_S * 2 ** min(failures - 1, 10), LONGEST_PAUSE_S)
        if pause_s is not None:
            pause = min(pause_s, LONGEST_RETRY_AFTER_S)
        self._by_tier[tier] = _Cooldown(self.clock() + pause, why, failures)

    def note_success(self, tier: str) -> None:
        """Note a success of a tier."""
        self._by_tier.pop(tier, None)

    def cooling(self) -> dict[str, str]:
        """Return the tiers that are not asked now, each with why and for how long."""
        if not self._by_tier:
            return {}
        now = self.clock()
        return {
            tier: f"{cooldown.why}, tried again in {cooldown.until - now:.0f} s"
            for tier, cooldown in self._by_tier.items()
            if cooldown.until > now
        }

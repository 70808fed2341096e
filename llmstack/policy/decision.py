"""What a decision is given of the stack, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmstack.config.model import Tier
    from llmstack.policy.facts import RequestFacts

AUTO = "auto"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule that was tried: the tier it chose, empty where it does not apply, and why."""

    rule: str
    tier: str
    detail: str


class Decision(msgspec.Struct, frozen=True):
    """What was chosen for one request, and why, in one line.

    Attributes:
        others: tiers that may serve in its place, best first; each holds the request.
        asked: the human asked for ultra, with a trigger.
        considered: every rule tried, in order, where that was asked for.
    """

    tier: str
    reason: str
    others: tuple[str, ...] = ()
    asked: bool = False
    considered: tuple[RuleResult, ...] = ()


class StackState(msgspec.Struct, frozen=True):
    """What is known of the tiers now.

    Attributes:
        unavailable: cannot start, with the reason.
        cooling: failed lately, with the reason.
        loaded: loaded now.
        evicting: cannot be loaded without unloading another one.
        factors: measured tokens per estimated token.
    """

    unavailable: Mapping[str, str] = _NOTHING
    cooling: Mapping[str, str] = _NOTHING
    loaded: frozenset[str] = frozenset()
    evicting: frozenset[str] = frozenset()
    factors: Mapping[str, float] = _NOTHING

    def needed(self, tier: Tier, facts: RequestFacts) -> int:
        """Return the tokens that a request and its answer take at a tier."""
        return ceil(facts.context_tokens * self.factors.get(tier.name, 1.0)) + facts.output_tokens

    def holding(self, tiers: Iterable[Tier], facts: RequestFacts) -> list[Tier]:
        """Return the tiers whose windows are large enough."""
        factor, size, answer = self.factors.get, facts.context_tokens, facts.output_tokens
        return [tier for tier in tiers if tier.ctx_size >= size * factor(tier.name, 1.0) + answer]

    def holds(self, tier: Tier, facts: RequestFacts) -> bool:
        """Return whether a tier's window is large enough."""
        return bool(self.holding((tier,), facts))


class NoTierError(LlmstackError):
    """No tier that `auto` may pick can serve."""


class NotServedError(NoTierError):
    """No tier is declared for such a request, so that trying again is no use."""


class ContextOverflowError(LlmstackError):
    """The request is larger than the window of every tier that could serve it.

    Args:
        message: what happened.
        needed: tokens of the request and its answer.
        window: the largest there is.
        hint: the next step.
    """

    def __init__(self, message: str, *, needed: int, window: int, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.needed = needed
        self.window = window

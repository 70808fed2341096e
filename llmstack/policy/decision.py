"""The input and the output of a routing decision."""

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
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The result of one rule: the tier it chose, or an empty string if it did not apply; and why."""

    rule: str
    tier: str
    detail: str


class Decision(msgspec.Struct, frozen=True):
    """The tier chosen for one request.

    Attributes:
        reason: why, in one line.
        others: tiers that may serve instead, best first; the request fits into the window of each.
        has_trigger: the user asked for the ultra tier with a trigger.
        considered: every rule that was tried, in order; complete only if an explanation was requested.
    """

    tier: str
    reason: str
    others: tuple[str, ...] = ()
    has_trigger: bool = False
    considered: tuple[RuleResult, ...] = ()


class StackState(msgspec.Struct, frozen=True):
    """The current state of the tiers, by name.

    Attributes:
        unavailable: tiers that cannot start, with the reason.
        cooling: tiers that failed recently, with the reason.
        loaded: tiers whose model is loaded.
        evicting: tiers that can be loaded only if another one is unloaded.
        factors: measured tokens per estimated token; 1 if missing.
    """

    unavailable: Mapping[str, str] = _EMPTY
    cooling: Mapping[str, str] = _EMPTY
    loaded: frozenset[str] = frozenset()
    evicting: frozenset[str] = frozenset()
    factors: Mapping[str, float] = _EMPTY

    def needed_tokens(self, tier: Tier, facts: RequestFacts) -> int:
        """Return how many tokens of a tier's window a request and its answer need."""
        return ceil(facts.context_tokens * self.factors.get(tier.name, 1.0)) + facts.output_tokens

    def fits(self, tier: Tier, facts: RequestFacts) -> bool:
        """Return whether a request and its answer fit into a tier's window."""
        return self.needed_tokens(tier, facts) <= tier.ctx_size

    def fitting_tiers(self, tiers: Iterable[Tier], facts: RequestFacts) -> list[Tier]:
        """Return those of the tiers whose window the request and its answer fit into."""
        return [tier for tier in tiers if self.fits(tier, facts)]


class NoTierError(LlmstackError):
    """No tier that `auto` may pick can serve the request."""


class NotServedError(NoTierError):
    """No tier is declared for this kind of request, so a retry cannot help."""


class ContextOverflowError(LlmstackError):
    """The request is larger than the window of every tier that could serve it.

    Args:
        message: what happened.
        needed: tokens of the request and its answer.
        window: tokens of the largest window.
        hint: the next step.
    """

    def __init__(self, message: str, *, needed: int, window: int, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.needed = needed
        self.window = window

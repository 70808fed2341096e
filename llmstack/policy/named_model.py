"""A request that names its tier. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.policy.decision import RuleResult, Decision
from llmstack.policy.eligibility import stand_ins

if TYPE_CHECKING:
    from llmstack.config.model import StackConfig, Tier
    from llmstack.policy.decision import StackState
    from llmstack.policy.facts import RequestFacts


def decide_named(model: str, tier: Tier, facts: RequestFacts, config: StackConfig, state: StackState) -> Decision:
    """Return the named tier; only what its `fallback` lists may serve in its place."""
    reason = "named" if model == tier.name else f"named: alias {model}"
    others = stand_ins(tier, (), facts, config, state)
    return Decision(tier.name, reason, others, considered=(RuleResult("named", tier.name, reason),))

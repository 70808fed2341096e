"""The decision for a request that names its tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.policy.decision import Decision, RuleResult
from llmstack.policy.eligibility import find_substitutes

if TYPE_CHECKING:
    from llmstack.config.model import StackConfig, Tier
    from llmstack.policy.decision import StackState
    from llmstack.policy.facts import RequestFacts


def decide_named(
    model: str, tier: Tier, facts: RequestFacts, config: StackConfig, state: StackState
) -> Decision:
    """Return the decision for the named tier; only tiers in its `fallback` may serve instead.

    Args:
        model: the name that the request uses: the tier's own or an alias.
        tier: the tier of that name.
        facts: the request.
        config: tiers.
        state: state of the tiers.
    """
    reason = "named" if model == tier.name else f"named: alias {model}"
    others = find_substitutes(tier, (), facts, config, state)
    return Decision(tier.name, reason, others, considered=(RuleResult("named", tier.name, reason),))

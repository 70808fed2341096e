"""Which tiers can serve a request now, and which may serve in another one's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.config.model import Role
from llmstack.policy.decision import ContextOverflowError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmstack.config.model import StackConfig, Tier
    from llmstack.policy.decision import StackState
    from llmstack.policy.facts import RequestFacts


def able(tiers: list[Tier], facts: RequestFacts, config: StackConfig, state: StackState) -> list[Tier]:
    """Return those that can serve this request, in the same order.

    An image goes to no tier that is blind while another one sees; where none does, the server that gets it
    says so better than we can. Tiers that failed lately are kept only where there is nothing else: a cooldown
    is a guess, and one attempt tells the client more than a refusal.

    Raises:
        ContextOverflowError: none holds it.
    """
    pool = (_seeing(tiers, config, state) or tiers) if facts.images else tiers
    fitting = state.holding(pool, facts)
    if not fitting:
        raise _too_large(pool, facts, state)
    if not state.cooling:
        return fitting
    return [tier for tier in fitting if tier.name not in state.cooling] or fitting


def _seeing(tiers: list[Tier], config: StackConfig, state: StackState) -> list[Tier]:
    """Return the tiers that see: of the ladder, else the planner, else any other on this machine."""
    if seeing := [tier for tier in tiers if "image" in tier.modalities]:
        return seeing
    return [
        tier
        for tier in sorted(config.tiers.values(), key=lambda tier: tier.role is not Role.PLAN)
        if "image" in tier.modalities
        and tier.serves == "chat"
        and tier.name not in state.unavailable
        and (tier.role is Role.PLAN or not tier.hosted)
    ]


def passed_over(tier: Tier, chosen: Tier, facts: RequestFacts, state: StackState) -> str:
    """Say why a tier does not serve a request, in a few words."""
    if tier.name in state.unavailable:
        return f"{tier.name} unavailable"
    if facts.images and "image" in chosen.modalities and "image" not in tier.modalities:
        return f"{tier.name} reads no images"
    if not state.holds(tier, facts):
        return f"{tier.name} holds {tier.ctx_size} of {state.needed(tier, facts)} tokens"
    return f"{tier.name} cooling: {state.cooling.get(tier.name, 'failed lately')}"


def stand_ins(
    chosen: Tier, by_role: Iterable[Tier], facts: RequestFacts, config: StackConfig, state: StackState
) -> tuple[str, ...]:
    """Return the tiers that may serve in place of the chosen one: its own `fallback`, then by role.

    A hosted tier takes nothing from one on this machine unless `fallback` names it.

    Args:
        chosen: that it is about.
        by_role: of those that `able` returned.
        facts: what the request says.
        config: tiers.
        state: of the tiers.
    """
    name, away = chosen.name, chosen.hosted
    others = [tier.name for tier in by_role if tier.name != name and (away or not tier.hosted)]
    if chosen.fallback:
        named = [other for other in _named_by(chosen, facts, config, state) if other != name]
        return tuple(dict.fromkeys([*named, *others]))
    return tuple(others)


def _named_by(chosen: Tier, facts: RequestFacts, config: StackConfig, state: StackState) -> list[str]:
    """Return the tiers that `fallback` names and that can serve the request."""
    sees = facts.images and "image" in chosen.modalities
    return [
        tier.name
        for name in chosen.fallback
        if (tier := config.tiers.get(name)) is not None
        and tier.serves == chosen.serves
        and tier.name not in state.unavailable
        and state.holds(tier, facts)
        and not (sees and "image" not in tier.modalities)
    ]


def _too_large(tiers: list[Tier], facts: RequestFacts, state: StackState) -> ContextOverflowError:
    largest = max(tiers, key=lambda tier: tier.ctx_size)
    needed = state.needed(largest, facts)
    return ContextOverflowError(
        f"the request exceeds the available context size: about {needed - facts.output_tokens} tokens"
        f" + {facts.output_tokens} for the answer, the largest window is {largest.ctx_size} ({largest.name})",
        needed=needed,
        window=largest.ctx_size,
        hint="compact the conversation, ask for a shorter answer, or raise `ctx_size`",
    )

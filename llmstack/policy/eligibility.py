"""Which tiers can serve a request now, and which may serve instead of the chosen one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.config.model import Role
from llmstack.policy.decision import ContextOverflowError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmstack.config.model import StackConfig, Tier
    from llmstack.policy.decision import StackState
    from llmstack.policy.facts import RequestFacts


def select_eligible(
    tiers: list[Tier], facts: RequestFacts, config: StackConfig, state: StackState
) -> list[Tier]:
    """Return those of the tiers that can serve this request, in the same order.

    A request with images goes only to tiers that read images, if there are any; otherwise the server that
    receives it reports the error. Tiers that failed recently are returned only if there are no others: the
    cooldown is a guess, and one more attempt tells the client more than a refusal.

    Raises:
        ContextOverflowError: the request fits into none of their windows.
    """
    pool = (_image_tiers(tiers, config, state) or tiers) if facts.images else tiers
    fitting = state.fitting_tiers(pool, facts)
    if not fitting:
        raise _context_overflow(pool, facts, state)
    if not state.cooling:
        return fitting
    return [tier for tier in fitting if tier.name not in state.cooling] or fitting


def _image_tiers(tiers: list[Tier], config: StackConfig, state: StackState) -> list[Tier]:
    """Return the tiers that read images: those of the ladder, else the planner, else local ones."""
    if image_tiers := [tier for tier in tiers if "image" in tier.modalities]:
        return image_tiers
    return [
        tier
        for tier in sorted(config.tiers.values(), key=lambda tier: tier.role is not Role.PLAN)
        if "image" in tier.modalities
        and tier.serves == "chat"
        and tier.name not in state.unavailable
        and (tier.role is Role.PLAN or not tier.hosted)
    ]


def explain_skip(skipped: Tier, chosen: Tier, facts: RequestFacts, state: StackState) -> str:
    """Return why the chosen tier serves a request instead of another one, in a few words."""
    name = skipped.name
    if name in state.unavailable:
        return f"{name} unavailable"
    if facts.images and "image" in chosen.modalities and "image" not in skipped.modalities:
        return f"{name} reads no images"
    if not state.fits(skipped, facts):
        return f"{name} holds {skipped.ctx_size} of {state.needed_tokens(skipped, facts)} tokens"
    return f"{name} cooling: {state.cooling.get(name, 'failed lately')}"


def find_substitutes(
    chosen: Tier, eligible: Iterable[Tier], facts: RequestFacts, config: StackConfig, state: StackState
) -> tuple[str, ...]:
    """Return the tiers that may serve instead of the chosen one: its own `fallback`, then the eligible ones.

    A hosted tier may not serve instead of a local one unless `fallback` names it.

    Args:
        chosen: the tier to replace.
        eligible: some of the tiers that `select_eligible` returned, best first.
        facts: the request.
        config: tiers.
        state: state of the tiers.
    """
    others = [
        tier.name for tier in eligible if tier.name != chosen.name and (chosen.hosted or not tier.hosted)
    ]
    if not chosen.fallback:
        return tuple(others)
    fallback = [name for name in _usable_fallback(chosen, facts, config, state) if name != chosen.name]
    return tuple(dict.fromkeys([*fallback, *others]))


def _usable_fallback(chosen: Tier, facts: RequestFacts, config: StackConfig, state: StackState) -> list[str]:
    """Return the tiers that `fallback` names and that can serve the request."""
    must_read_images = facts.images and "image" in chosen.modalities
    return [
        tier.name
        for name in chosen.fallback
        if (tier := config.tiers.get(name)) is not None
        and tier.serves == chosen.serves
        and tier.name not in state.unavailable
        and state.fits(tier, facts)
        and not (must_read_images and "image" not in tier.modalities)
    ]


def _context_overflow(tiers: list[Tier], facts: RequestFacts, state: StackState) -> ContextOverflowError:
    largest = max(tiers, key=lambda tier: tier.ctx_size)
    needed = state.needed_tokens(largest, facts)
    return ContextOverflowError(
        f"the request exceeds the available context size: about {needed - facts.output_tokens} tokens"
        f" + {facts.output_tokens} for the answer, the largest window is {largest.ctx_size} ({largest.name})",
        needed=needed,
        window=largest.ctx_size,
        hint="compact the conversation, ask for a shorter answer, or raise `ctx_size`",
    )

"""`auto`: which tier serves a request. Pure: facts, configuration and availability in, decision out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.config.model import Role
from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import Routing, StackConfig, Tier
    from llmstack.policy.facts import RequestFacts

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen for one request, and why, in one line.

    Attributes:
        others: tiers that may serve in its place, best first; each holds the request.
    """

    tier: str
    reason: str
    others: tuple[str, ...] = ()


class NoTierError(LlmstackError):
    """No tier that `auto` may pick can serve."""


class ContextOverflowError(LlmstackError):
    """The request is larger than the window of every tier that could serve it."""


@dataclass(frozen=True, slots=True)
class _Rung:
    """One row of the ladder: the roles to try in turn, and the reason."""

    roles: tuple[Role, ...]
    reason: str


def decide(facts: RequestFacts, config: StackConfig, unavailable: Mapping[str, str]) -> Decision:
    """Choose the tier for a request to `auto`.

    Args:
        facts: what the request says.
        config: tiers and ceilings.
        unavailable: tiers that cannot start, with the reason.

    Raises:
        NoTierError: nothing is available.
        ContextOverflowError: no available tier holds the request.
    """
    usable = {role: tier for role in Role if (tier := _available(config, role, unavailable))}
    rung = _rung(facts, config.routing)
    first = [usable[role] for role in rung.roles if role in usable]
    rest = [usable[role] for role in (Role.AGENT, Role.FAST, Role.ULTRA) if role in usable]
    # A planner serves where there is nothing else, not where something else is too small.
    candidates = first + rest or [usable[role] for role in (Role.PLAN,) if role in usable]
    if not candidates:
        raise _nothing_available(config, unavailable)
    needed = facts.context_tokens + facts.output_tokens
    fitting = [tier for tier in candidates if tier.ctx_size >= needed]
    if not fitting:
        raise _too_large(facts, candidates)
    chosen = fitting[0]
    notes = [rung.reason, *_left_out(rung, config, unavailable)]
    if chosen is not candidates[0]:
        notes.append(f"{candidates[0].name} holds {candidates[0].ctx_size} of {needed} tokens")
    return Decision(chosen.name, "; ".join(notes))


def _rung(facts: RequestFacts, routing: Routing) -> _Rung:
    """Return the first row that matches."""
    size = facts.conversation_tokens
    high, mid = routing.high_fidelity_ceiling, routing.mid_fidelity_ceiling
    trigger = find_trigger(facts.last_words, routing)
    if trigger is not None:
        return _Rung((Role.ULTRA, Role.AGENT, Role.FAST), f"trigger {trigger}")
    if size <= high:
        return _Rung((Role.ULTRA, Role.AGENT, Role.FAST), f"short: {size} <= {high} tokens")
    if size <= mid:
        return _Rung((Role.AGENT, Role.FAST), f"mid: {size} <= {mid} tokens")
    if facts.tool_result_pending:
        return _Rung((Role.AGENT, Role.FAST), f"long: {size} > {mid} tokens, tool result pending")
    if facts.user_turns >= routing.multi_turn:
        turns = f"{facts.user_turns} >= {routing.multi_turn} user turns"
        return _Rung((Role.AGENT, Role.FAST), f"long: {size} > {mid} tokens, {turns}")
    return _Rung((Role.FAST,), f"long: {size} > {mid} tokens")


def find_trigger(words: str, routing: Routing) -> str | None:
    """Return the ultra trigger that a human wrote, if any.

    A trigger that ends in `:` must start a line, any other matches anywhere; case does not matter.
    """
    text = words.lower()
    lines = [line.lstrip() for line in text.splitlines()]
    for trigger in routing.ultra_triggers:
        wanted = trigger.lower()
        if any(line.startswith(wanted) for line in lines) if wanted.endswith(":") else wanted in text:
            return trigger
    return None


def _available(config: StackConfig, role: Role, unavailable: Mapping[str, str]) -> Tier | None:
    tier = config.by_role(role)
    return tier if tier is not None and tier.name not in unavailable else None


def _left_out(rung: _Rung, config: StackConfig, unavailable: Mapping[str, str]) -> list[str]:
    """Say which tiers above the chosen one cannot serve, or are not declared."""
    notes = []
    for role in rung.roles:
        tier = config.by_role(role)
        if tier is not None and tier.name not in unavailable:
            break
        notes.append(f"no {role} tier" if tier is None else f"{tier.name} unavailable")
    return notes


def _nothing_available(config: StackConfig, unavailable: Mapping[str, str]) -> NoTierError:
    roles = (Role.FAST, Role.AGENT, Role.ULTRA, Role.PLAN)
    reasons = [
        f"{tier.name}: {unavailable[tier.name]}"
        for role in roles
        if (tier := config.by_role(role)) and tier.name in unavailable
    ]
    if not reasons:
        return NoTierError(
            "auto: no tier has the role fast, agent, ultra or plan",
            hint="give a tier a `role` in models.ini, or name a tier as `model`",
        )
    return NoTierError(
        f"auto: no tier is available ({'; '.join(reasons)})", hint="`llmstack check` says how to mend each"
    )


def _too_large(facts: RequestFacts, candidates: list[Tier]) -> ContextOverflowError:
    largest = max(candidates, key=lambda tier: tier.ctx_size)
    return ContextOverflowError(
        f"the request exceeds the available context size: about {facts.context_tokens} tokens"
        f" + {facts.output_tokens} for the answer, the largest window is {largest.ctx_size} ({largest.name})",
        hint="compact the conversation, ask for a shorter answer, or raise `ctx_size`",
    )


def auto_context(config: StackConfig, unavailable: Mapping[str, str]) -> int:
    """Return the window of `auto` in tokens: the largest among the tiers it can pick, else 0."""
    ladder = [Role.FAST, Role.AGENT, Role.ULTRA]
    tiers = [tier for role in ladder if (tier := _available(config, role, unavailable))]
    if not tiers and (plan := _available(config, Role.PLAN, unavailable)):
        tiers = [plan]
    return max((tier.ctx_size for tier in tiers), default=0)

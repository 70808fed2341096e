"""The base policy: which tier serves a request to `auto`, each request for itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.config.model import Role
from llmstack.policy.able import able, available, passed_over, stand_ins
from llmstack.policy.decision import Considered, Decision, NoTierError, NotServedError, StackState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmstack.config.model import Routing, StackConfig, Tier
    from llmstack.policy.facts import RequestFacts

_TOP = (Role.ULTRA, Role.AGENT, Role.FAST)
_MIDDLE = (Role.AGENT, Role.FAST)


@dataclass(slots=True)
class _Row:
    """One row of the ladder: whether it matches, why, and the roles to try in turn."""

    name: str
    roles: tuple[Role, ...]
    matches: bool
    reason: str


def ladder(facts: RequestFacts, config: StackConfig, state: StackState, *, explain: bool = False) -> Decision:
    """Choose the tier for a request to `auto`.

    Args:
        facts: what the request says.
        config: tiers and ceilings.
        state: of the tiers.
        explain: say which rows were tried.

    Raises:
        NoTierError: nothing is available.
        ContextOverflowError: no available tier holds the request.
    """
    if facts.task in {"embedding", "rerank"}:
        return _made_for(facts, config, state)
    rows = list(_rows(facts, config.routing))
    row = rows[-1]
    candidates = ladder_tiers(row.roles, facts, config, state)
    if not candidates:
        if facts.task == "infill" and not any(config.by_role(role) for role in row.roles):
            raise NotServedError(
                "auto: infill is for the roles fast and agent", hint="give a tier one of them in models.ini"
            )
        raise _nothing_available(config, state.unavailable)
    fitting = able(candidates, facts, config, state)
    chosen = fitting[0]
    notes = [row.reason, *_left_out(row.roles, config, state)]
    if chosen is not candidates[0]:
        notes.append(passed_over(candidates[0], chosen, facts, state))
    if facts.images and "image" not in chosen.modalities:
        notes.append("no tier reads images")
    reason = "; ".join(notes)
    missed = [Considered(f"ladder: {row.name}", "", row.reason) for row in rows[:-1] if explain]
    considered = (*missed, Considered(f"ladder: {row.name}", chosen.name, reason))
    return Decision(chosen.name, reason, stand_ins(chosen, fitting[1:], facts, config, state), considered)


def ladder_tiers(
    first: tuple[Role, ...], facts: RequestFacts, config: StackConfig, state: StackState
) -> list[Tier]:
    """Return the tiers that can start, these roles first, then the others that `auto` may pick."""
    roles = (*first, *(role for role in (*_MIDDLE, Role.ULTRA) if role not in first))
    if facts.task == "infill":
        roles = first
    found = [tier for role in roles if (tier := available(config, role, state))]
    # A planner serves where there is nothing else, not where something else is too small.
    if not found and facts.task != "infill" and (planner := available(config, Role.PLAN, state)):
        found = [planner]
    return found


def _rows(facts: RequestFacts, routing: Routing) -> Iterator[_Row]:
    """Yield the rows down to the first that matches."""
    for row in _all_rows(facts, routing):
        yield row
        if row.matches:
            return


def _all_rows(facts: RequestFacts, routing: Routing) -> Iterator[_Row]:
    if facts.task == "infill":
        yield _Row("infill", (Role.FAST, Role.AGENT), matches=True, reason="infill: between two texts")
    size = facts.conversation_tokens
    high, mid = routing.high_fidelity_ceiling, routing.mid_fidelity_ceiling
    trigger = find_trigger(facts.last_words, routing)
    yield _Row("trigger", _TOP, trigger is not None, f"trigger {trigger}" if trigger else "none was written")
    short = size <= high
    yield _Row(
        "short", _TOP, short, f"short: {size} <= {high} tokens" if short else f"{size} > {high} tokens"
    )
    middling = size <= mid
    yield _Row(
        "mid", _MIDDLE, middling, f"mid: {size} <= {mid} tokens" if middling else f"{size} > {mid} tokens"
    )
    long = f"long: {size} > {mid} tokens"
    pending, turns = facts.tool_result_pending, facts.user_turns
    yield _Row(
        "tool loop",
        _MIDDLE,
        pending,
        f"{long}, tool result pending" if pending else "no tool result is pending",
    )
    many = turns >= routing.multi_turn
    counted = f"{turns} {'>=' if many else '<'} {routing.multi_turn} user turns"
    yield _Row("turns", _MIDDLE, many, f"{long}, {counted}" if many else counted)
    yield _Row("long", (Role.FAST,), matches=True, reason=long)


def find_trigger(words: str, routing: Routing) -> str | None:
    """Return the ultra trigger that a human wrote, if any.

    A trigger that ends in `:` must start a line, any other matches anywhere; case does not matter.
    """
    text = words.lower()
    for trigger in routing.ultra_triggers:
        wanted = trigger.lower()
        if wanted not in text:
            continue  # as nearly always
        if not wanted.endswith(":") or any(line.lstrip().startswith(wanted) for line in text.splitlines()):
            return trigger
    return None


def _made_for(facts: RequestFacts, config: StackConfig, state: StackState) -> Decision:
    """Choose among the tiers that serve embeddings, or that rerank; chat models do neither well."""
    made = [tier for tier in config.tiers.values() if tier.serves == facts.task]
    if not made:
        raise NotServedError(
            f"auto: no tier is declared for {facts.task}",
            hint=f"give one `serves = {facts.task}` in models.ini",
        )
    usable = [tier for tier in made if tier.name not in state.unavailable]
    if not usable:
        why = "; ".join(f"{tier.name}: {state.unavailable[tier.name]}" for tier in made)
        raise NoTierError(
            f"auto: no tier is available ({why})", hint="`llmstack check` says how to mend each"
        )
    fitting = able(usable, facts, config, state)
    reason = f"{facts.task}: made for it"
    considered = (Considered(facts.task, fitting[0].name, reason),)
    # Vectors of one model mean nothing to another: only what `fallback` names may serve in its place.
    return Decision(fitting[0].name, reason, stand_ins(fitting[0], (), facts, config, state), considered)


def _left_out(roles: tuple[Role, ...], config: StackConfig, state: StackState) -> list[str]:
    """Say which tiers above the chosen one cannot serve, or are not declared."""
    notes = []
    for role in roles:
        if available(config, role, state) is not None:
            break
        tier = config.by_role(role)
        notes.append(
            f"no {role} tier" if tier is None or tier.serves != "chat" else f"{tier.name} unavailable"
        )
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


def auto_context(config: StackConfig, unavailable: Mapping[str, str]) -> int:
    """Return the window of `auto` in tokens: the largest among the tiers it can pick, else 0."""
    state = StackState(unavailable)
    tiers = [tier for role in _TOP if (tier := available(config, role, state))]
    if not tiers and (plan := available(config, Role.PLAN, state)):
        tiers = [plan]
    return max((tier.ctx_size for tier in tiers), default=0)

"""The base policy: which tier serves a request to `auto`, each request for itself. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from llmstack.config.model import Role
from llmstack.policy.decision import RuleResult, Decision, NoTierError, NotServedError, StackState
from llmstack.policy.eligibility import able, passed_over, stand_ins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmstack.config.model import Routing, StackConfig, Tier
    from llmstack.policy.facts import RequestFacts

_TOP = (Role.ULTRA, Role.AGENT, Role.FAST)
_MIDDLE = (Role.AGENT, Role.FAST)
_BOTTOM = (Role.FAST,)
# By a row's own roles: those, then what serves where they cannot.
_IN_TURN = {_TOP: _TOP, _MIDDLE: (*_MIDDLE, Role.ULTRA), _BOTTOM: (*_BOTTOM, Role.AGENT, Role.ULTRA)}


class _Row(msgspec.Struct, frozen=True, gc=False):
    """The row of the ladder that matches: the roles to try in turn, and why."""

    name: str
    roles: tuple[Role, ...]
    reason: str


class Climb(msgspec.Struct, frozen=True):
    """What the ladder says of one request.

    Attributes:
        fitting: tiers that can serve it, the ladder's own first.
        reason: in one line.
        row: that matched.
    """

    fitting: list[Tier]
    reason: str
    row: _Row

    def considered(self, facts: RequestFacts, routing: Routing) -> tuple[RuleResult, ...]:
        """Return every row that was tried."""
        chosen = RuleResult(f"ladder: {self.row.name}", self.fitting[0].name, self.reason)
        return (*_missed(self.row, facts, routing), chosen)


def decide_by_ladder(facts: RequestFacts, config: StackConfig, state: StackState, *, explain: bool = False) -> Decision:
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
    trigger = find_trigger(facts.last_words, config.routing)
    found = climb(facts, config, state, trigger)
    chosen, *rest = found.fitting
    considered = found.considered(facts, config.routing) if explain else ()
    others = stand_ins(chosen, rest, facts, config, state)
    return Decision(chosen.name, found.reason, others, trigger is not None, considered)


def climb(facts: RequestFacts, config: StackConfig, state: StackState, trigger: str | None) -> Climb:
    """Find the tiers for a request of words, best first.

    Args:
        facts: what the request says.
        config: tiers and ceilings.
        state: of the tiers.
        trigger: what `find_trigger` found.

    Raises:
        NoTierError: nothing is available.
        ContextOverflowError: no available tier holds the request.
    """
    row = _row(facts, config.routing, trigger)
    roles = row.roles
    candidates = _candidates(roles, facts, config, state)
    fitting = able(candidates, facts, config, state)
    first, chosen = candidates[0], fitting[0]
    reason = row.reason
    if first.role is not roles[0]:
        reason = "; ".join((reason, *_left_out(roles, config, state)))
    if chosen is not first:
        reason += f"; {passed_over(first, chosen, facts, state)}"
    elif chosen.name in state.cooling:
        reason += f"; nothing else serves, {passed_over(first, chosen, facts, state)}"
    if facts.images and "image" not in chosen.modalities:
        reason += "; no tier reads images"
    return Climb(fitting, reason, row)


def _candidates(
    roles: tuple[Role, ...], facts: RequestFacts, config: StackConfig, state: StackState
) -> list[Tier]:
    """Return the tiers of these roles, then the others that `auto` may pick."""
    if facts.task != "infill":
        found = _usable(_IN_TURN[roles], config, state)
        # A planner serves where there is nothing else, not where something else is too small.
        found = found or _usable((Role.PLAN,), config, state)
    elif not (found := _usable(roles, config, state)) and not any(config.by_role(role) for role in roles):
        raise NotServedError(
            "auto: infill is for the roles fast and agent", hint="give a tier one of them in models.ini"
        )
    if not found:
        raise _nothing_available(config, state.unavailable)
    return found


def _usable(roles: tuple[Role, ...], config: StackConfig, state: StackState) -> list[Tier]:
    """Return the chat tiers of these roles that can start."""
    tiers, away = config.in_turn(roles), state.unavailable
    return [tier for tier in tiers if tier.name not in away] if away else list(tiers)


def _row(facts: RequestFacts, routing: Routing, trigger: str | None) -> _Row:
    """Return the first row that matches."""
    size, high, mid = facts.conversation_tokens, routing.high_fidelity_ceiling, routing.mid_fidelity_ceiling
    if facts.task == "infill":
        return _Row("infill", (Role.FAST, Role.AGENT), "infill: between two texts")
    if trigger:
        return _Row("trigger", _TOP, f"trigger {trigger}")
    if size <= high:
        return _Row("short", _TOP, f"short: {size} <= {high} tokens")
    if size <= mid:
        return _Row("mid", _MIDDLE, f"mid: {size} <= {mid} tokens")
    long = f"long: {size} > {mid} tokens"
    if facts.tool_result_pending:
        return _Row("tool loop", _MIDDLE, f"{long}, tool result pending")
    if facts.user_turns >= routing.multi_turn:
        return _Row("turns", _MIDDLE, f"{long}, {facts.user_turns} >= {routing.multi_turn} user turns")
    return _Row("long", _BOTTOM, long)


def _missed(row: _Row, facts: RequestFacts, routing: Routing) -> Iterator[RuleResult]:
    """Say why each row above the one that matched did not."""
    if row.name == "infill":
        return
    size = facts.conversation_tokens
    for name, why in (
        ("trigger", "none was written"),
        ("short", f"{size} > {routing.high_fidelity_ceiling} tokens"),
        ("mid", f"{size} > {routing.mid_fidelity_ceiling} tokens"),
        ("tool loop", "no tool result is pending"),
        ("turns", f"{facts.user_turns} < {routing.multi_turn} user turns"),
    ):
        if name == row.name:
            return
        yield RuleResult(f"ladder: {name}", "", why)


def find_trigger(words: str, routing: Routing) -> str | None:
    """Return the ultra trigger that a human wrote, if any.

    A trigger that ends in `:` must start a line, any other matches anywhere; case does not matter.
    """
    if not words:
        return None
    text = words.lower()
    for trigger, wanted in zip(routing.ultra_triggers, routing.lowered_triggers, strict=True):
        if wanted not in text:
            continue  # as nearly always, also in a paste of megabytes
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
    considered = (RuleResult(facts.task, fitting[0].name, reason),)
    # Vectors of one model mean nothing to another: only what `fallback` names may serve in its place.
    others = stand_ins(fitting[0], (), facts, config, state)
    return Decision(fitting[0].name, reason, others, considered=considered)


def _left_out(roles: tuple[Role, ...], config: StackConfig, state: StackState) -> list[str]:
    """Say which tiers above the chosen one cannot serve, or are not declared."""
    notes = []
    for role in roles:
        if _usable((role,), config, state):
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
    tiers = _usable(_TOP, config, state) or _usable((Role.PLAN,), config, state)
    return max((tier.ctx_size for tier in tiers), default=0)

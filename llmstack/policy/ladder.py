"""The base policy: choose the tier for a request to `auto` by the request alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from llmstack.config.model import Role
from llmstack.policy.decision import Decision, NoTierError, NotServedError, RuleResult, StackState
from llmstack.policy.eligibility import explain_skip, find_substitutes, select_eligible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmstack.config.model import Routing, StackConfig, Tier
    from llmstack.policy.facts import RequestFacts

_ULTRA_FIRST = (Role.ULTRA, Role.AGENT, Role.FAST)
_AGENT_FIRST = (Role.AGENT, Role.FAST)
_FAST_ONLY = (Role.FAST,)
# A row's own roles, followed by those that serve if none of its own can.
_WITH_SUBSTITUTES = {
    _ULTRA_FIRST: _ULTRA_FIRST,
    _AGENT_FIRST: (*_AGENT_FIRST, Role.ULTRA),
    _FAST_ONLY: (*_FAST_ONLY, Role.AGENT, Role.ULTRA),
}
_CHECK_HINT = "`llmstack check` says how to fix each"


class LadderRow(msgspec.Struct, frozen=True, gc=False):
    """The row of the ladder that matches a request: roles to try, best first, and why it matches."""

    name: str
    roles: tuple[Role, ...]
    reason: str


class LadderResult(msgspec.Struct, frozen=True):
    """The tiers for one request.

    Attributes:
        tiers: tiers that can serve the request, the ladder's choice first.
        reason: why the first one was chosen, in one line.
        row: the row that matched.
    """

    tiers: list[Tier]
    reason: str
    row: LadderRow

    def rule_results(self, facts: RequestFacts, routing: Routing) -> tuple[RuleResult, ...]:
        """Return the result of every row that was tried."""
        match = RuleResult(f"ladder: {self.row.name}", self.tiers[0].name, self.reason)
        return (*_rows_above(self.row, facts, routing), match)


def decide_by_ladder(
    facts: RequestFacts, config: StackConfig, state: StackState, *, explain: bool = False
) -> Decision:
    """Choose the tier for a request to `auto`.

    Args:
        facts: the request.
        config: tiers and ceilings.
        state: state of the tiers.
        explain: add the result of every row that was tried.

    Raises:
        NoTierError: no tier is available.
        ContextOverflowError: the request fits into no available tier.
    """
    if facts.task in {"embedding", "rerank"}:
        return _decide_by_task(facts, config, state)
    trigger = find_trigger(facts.last_words, config.routing)
    result = rank_tiers(facts, config, state, trigger)
    chosen, *rest = result.tiers
    considered = result.rule_results(facts, config.routing) if explain else ()
    others = find_substitutes(chosen, rest, facts, config, state)
    return Decision(chosen.name, result.reason, others, trigger is not None, considered)


def rank_tiers(
    facts: RequestFacts, config: StackConfig, state: StackState, trigger: str | None
) -> LadderResult:
    """Return the tiers for a chat or infill request, best first.

    Args:
        facts: the request.
        config: tiers and ceilings.
        state: state of the tiers.
        trigger: the result of `find_trigger`.

    Raises:
        NoTierError: no tier is available.
        ContextOverflowError: the request fits into no available tier.
    """
    row = _matching_row(facts, config.routing, trigger)
    candidates = _candidates(row.roles, facts, config, state)
    eligible = select_eligible(candidates, facts, config, state)
    first, chosen = candidates[0], eligible[0]
    reason = row.reason
    if first.role is not row.roles[0]:
        reason = "; ".join((reason, *_missing_roles(row.roles, config, state)))
    if chosen is not first:
        reason += f"; {explain_skip(first, chosen, facts, state)}"
    elif chosen.name in state.cooling:
        reason += f"; nothing else serves, {explain_skip(first, chosen, facts, state)}"
    if facts.images and "image" not in chosen.modalities:
        reason += "; no tier reads images"
    return LadderResult(eligible, reason, row)


def _candidates(
    roles: tuple[Role, ...], facts: RequestFacts, config: StackConfig, state: StackState
) -> list[Tier]:
    """Return the tiers of these roles, followed by the others that `auto` may pick."""
    if facts.task == "infill":
        tiers = _available_tiers(roles, config, state)
        if not tiers and not any(config.by_role(role) for role in roles):
            raise NotServedError(
                "auto: infill is for the roles fast and agent", hint="give a tier one of them in models.ini"
            )
    else:
        tiers = _available_tiers(_WITH_SUBSTITUTES[roles], config, state)
        # A planner serves only if there is no other tier, not if the others are too small.
        tiers = tiers or _available_tiers((Role.PLAN,), config, state)
    if not tiers:
        raise _no_tier_error(config, state.unavailable)
    return tiers


def _available_tiers(roles: tuple[Role, ...], config: StackConfig, state: StackState) -> list[Tier]:
    """Return the chat tiers of these roles that can start, in the order of the roles."""
    tiers, unavailable = config.chat_tiers(roles), state.unavailable
    return [tier for tier in tiers if tier.name not in unavailable] if unavailable else list(tiers)


def _matching_row(facts: RequestFacts, routing: Routing, trigger: str | None) -> LadderRow:
    """Return the first row that matches."""
    size, high, mid = facts.conversation_tokens, routing.high_fidelity_ceiling, routing.mid_fidelity_ceiling
    if facts.task == "infill":
        return LadderRow("infill", (Role.FAST, Role.AGENT), "infill: between two texts")
    if trigger:
        return LadderRow("trigger", _ULTRA_FIRST, f"trigger {trigger}")
    if size <= high:
        return LadderRow("short", _ULTRA_FIRST, f"short: {size} <= {high} tokens")
    if size <= mid:
        return LadderRow("mid", _AGENT_FIRST, f"mid: {size} <= {mid} tokens")
    long = f"long: {size} > {mid} tokens"
    if facts.tool_result_pending:
        return LadderRow("tool loop", _AGENT_FIRST, f"{long}, tool result pending")
    if facts.user_turns >= routing.multi_turn:
        return LadderRow(
            "turns", _AGENT_FIRST, f"{long}, {facts.user_turns} >= {routing.multi_turn} user turns"
        )
    return LadderRow("long", _FAST_ONLY, long)


def _rows_above(row: LadderRow, facts: RequestFacts, routing: Routing) -> Iterator[RuleResult]:
    """Yield each row above the one that matched, with why it did not match."""
    if row.name == "infill":
        return
    size = facts.conversation_tokens
    for name, detail in (
        ("trigger", "none was written"),
        ("short", f"{size} > {routing.high_fidelity_ceiling} tokens"),
        ("mid", f"{size} > {routing.mid_fidelity_ceiling} tokens"),
        ("tool loop", "no tool result is pending"),
        ("turns", f"{facts.user_turns} < {routing.multi_turn} user turns"),
    ):
        if name == row.name:
            return
        yield RuleResult(f"ladder: {name}", "", detail)


def find_trigger(words: str, routing: Routing) -> str | None:
    """Return the first ultra trigger in the user's words, or None.

    A trigger that ends in `:` must be at the start of a line, any other may be anywhere; case is ignored.
    """
    if not words:
        return None
    text = words.lower()
    for trigger in routing.ultra_triggers:
        pattern = trigger.lower()
        if pattern not in text:  # checked first: splitting a paste of megabytes into lines is slow
            continue
        if not pattern.endswith(":") or any(line.lstrip().startswith(pattern) for line in text.splitlines()):
            return trigger
    return None


def _decide_by_task(facts: RequestFacts, config: StackConfig, state: StackState) -> Decision:
    """Choose among the tiers that serve embeddings or reranking, since chat models do neither well."""
    declared = [tier for tier in config.tiers.values() if tier.serves == facts.task]
    if not declared:
        raise NotServedError(
            f"auto: no tier is declared for {facts.task}",
            hint=f"give one `serves = {facts.task}` in models.ini",
        )
    available = [tier for tier in declared if tier.name not in state.unavailable]
    if not available:
        reasons = "; ".join(f"{tier.name}: {state.unavailable[tier.name]}" for tier in declared)
        raise NoTierError(f"auto: no tier is available ({reasons})", hint=_CHECK_HINT)
    chosen = select_eligible(available, facts, config, state)[0]
    reason = f"{facts.task}: made for it"
    # Models have different vector spaces, so only tiers in its `fallback` may serve instead.
    others = find_substitutes(chosen, (), facts, config, state)
    considered = (RuleResult(facts.task, chosen.name, reason),)
    return Decision(chosen.name, reason, others, considered=considered)


def _missing_roles(roles: tuple[Role, ...], config: StackConfig, state: StackState) -> list[str]:
    """Return why each role above the chosen tier's cannot serve: no such tier, or unavailable."""
    notes = []
    for role in roles:
        tier = config.by_role(role)
        if tier is None or tier.serves != "chat":
            notes.append(f"no {role} tier")
        elif tier.name in state.unavailable:
            notes.append(f"{tier.name} unavailable")
        else:
            break
    return notes


def _no_tier_error(config: StackConfig, unavailable: Mapping[str, str]) -> NoTierError:
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
    return NoTierError(f"auto: no tier is available ({'; '.join(reasons)})", hint=_CHECK_HINT)


def auto_context(config: StackConfig, unavailable: Mapping[str, str]) -> int:
    """Return the window of `auto` in tokens: the largest among the tiers it can pick, or 0."""
    state = StackState(unavailable)
    tiers = _available_tiers(_ULTRA_FIRST, config, state) or _available_tiers((Role.PLAN,), config, state)
    return max((tier.ctx_size for tier in tiers), default=0)

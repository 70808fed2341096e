"""The policy for conversations: stay at the same tier, since a switch throws the prompt cache away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from llmstack.config.model import Role
from llmstack.policy.decision import Decision, RuleResult
from llmstack.policy.eligibility import explain_skip, find_substitutes
from llmstack.policy.ladder import decide_by_ladder, find_trigger, rank_tiers

if TYPE_CHECKING:
    from llmstack.config.model import StackConfig, Tier
    from llmstack.policy.decision import StackState
    from llmstack.policy.facts import RequestFacts
    from llmstack.policy.ladder import LadderResult

IDLE_S = 1800.0  # after half an hour, a switch interrupts nobody
HOSTED_CACHE_S = 300.0  # how long providers keep an unused prompt cache
# A conversation below this fraction of its largest size was compacted or has a new topic: its cache is lost.
REWRITTEN = 0.8
TURN = 1 / 16  # fraction of a window that a turn of tool calls typically adds
_STRENGTH = {Role.FAST: 1, Role.AGENT: 2, Role.ULTRA: 3}


class Session(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a conversation between its requests.

    Attributes:
        tier: the tier of its last request.
        last_request_at: time of its last request in seconds, on the caller's clock.
        size: its largest size since the tier was chosen, in estimated tokens.
        turns: number of messages of the user.
        return_to: during a turn that asked for ultra: the tier to return to afterwards, or an empty string if
            the conversation began with it. None outside such a turn.
    """

    tier: str
    last_request_at: float
    size: int
    turns: int = 0
    return_to: str | None = None


class _Context(msgspec.Struct):
    """Everything that the rules look at.

    Attributes:
        ladder: what the ladder says of the request by itself.
        trigger: the ultra trigger in the user's last message.
        preferred: the ladder's choice; but the agent tier instead of the fast one if tools are offered, since
            the request may begin a tool loop.
        preferred_reason: why it is preferred.
        current: the tier of the conversation; None if it cannot serve the request or there is none.
    """

    facts: RequestFacts
    config: StackConfig
    state: StackState
    session: Session
    now: float
    ladder: LadderResult
    trigger: str | None
    preferred: Tier
    preferred_reason: str
    current: Tier | None


def decide(
    facts: RequestFacts,
    config: StackConfig,
    state: StackState,
    session: Session | None = None,
    now: float = 0.0,
    *,
    explain: bool = False,
) -> Decision:
    """Choose the tier for a request to `auto`, considering its conversation.

    Args:
        facts: the request.
        config: tiers, ceilings, and whether conversations stick to their tier.
        state: state of the tiers.
        session: the conversation; None if it is new or unknown.
        now: time in seconds, on the same clock as `session.last_request_at`.
        explain: add the result of every rule that was tried.

    Raises:
        NoTierError: no tier is available.
        ContextOverflowError: the request fits into no available tier.
    """
    if not config.routing.sticky or facts.task != "chat":
        return decide_by_ladder(facts, config, state, explain=explain)
    trigger = find_trigger(facts.last_words, config.routing)
    ladder = rank_tiers(facts, config, state, trigger)
    session = session or Session("", now, 0)
    current = next((tier for tier in ladder.tiers if tier.name == session.tier), None)
    preferred, preferred_reason = _preferred_tier(ladder, facts)
    context = _Context(
        facts, config, state, session, now, ladder, trigger, preferred, preferred_reason, current
    )
    considered = list(ladder.rule_results(facts, config.routing)) if explain else []
    for name, rule in _RULES:
        chosen, detail = rule(context)
        if explain:
            considered.append(RuleResult(name, chosen.name if chosen else "", detail))
        if chosen is not None:
            is_ladder_choice = chosen is ladder.tiers[0] and detail == _AS_LADDER
            reason = ladder.reason if is_ladder_choice else f"{name}: {detail}"
            others = find_substitutes(chosen, ladder.tiers, facts, config, state)
            return Decision(chosen.name, reason, others, trigger is not None, tuple(considered))
    raise AssertionError("the last rule always chooses a tier")


def _preferred_tier(ladder: LadderResult, facts: RequestFacts) -> tuple[Tier, str]:
    """Return the tier that suits the request best, and why."""
    tier = ladder.tiers[0]
    if tier.role is Role.FAST and facts.tools and (agent := _agent_tier(ladder.tiers)):
        return agent, f"{ladder.reason}, but tools are offered"
    return tier, _AS_LADDER


def next_session(session: Session | None, facts: RequestFacts, decision: Decision, now: float) -> Session:
    """Return the conversation after this request, assuming that the chosen tier serves it."""
    tier, size, return_to = decision.tier, facts.conversation_tokens, None
    is_same_tier = session is not None and session.tier == tier
    if session is not None and is_same_tier and size >= REWRITTEN * session.size:
        size = max(size, session.size)
    if decision.has_trigger:
        if session is None:
            return_to = ""
        elif session.return_to is not None or not is_same_tier:
            return_to = session.return_to if session.return_to is not None else session.tier
    elif session is not None and facts.tool_result_pending:
        return_to = session.return_to
    return Session(tier, now, size, facts.user_turns, return_to)


def move_session(session: Session, tier: str) -> Session:
    """Return the conversation after another tier than the chosen one served its request."""
    return msgspec.structs.replace(session, tier=tier)


def may_continue(session: Session, facts: RequestFacts) -> bool:
    """Return whether a request may belong to a conversation although its opening differs.

    Some clients put the date or the state of the repository into the system prompt. Requests for a title
    offer no tools, and sub-agents start with their first turn, so neither is taken for the same conversation.
    """
    expected_turn = session.turns + (not facts.tool_result_pending)
    is_next_turn = facts.user_turns == expected_turn
    return facts.tools and is_next_turn and facts.conversation_tokens >= session.size


# The rules; the first one that chooses a tier wins. Each returns its tier, or None, and why or why not.

_AS_LADDER = "as the ladder says"


def _choose_again(context: _Context) -> tuple[Tier, str]:
    """Choose as if the conversation began now.

    No model is unloaded if a loaded one is at least as strong: another conversation would load it again.
    """
    preferred, state = context.preferred, context.state
    if preferred.name in state.evicting:
        alternatives = [
            tier
            for tier in context.ladder.tiers
            if tier.name in state.loaded and _strength(tier) >= _strength(preferred)
        ]
        if alternatives:
            strongest = max(alternatives, key=_strength)
            return strongest, f"{preferred.name} would unload {strongest.name}, which serves as well"
    return preferred, context.preferred_reason


def _agent_tier(tiers: list[Tier]) -> Tier | None:
    return next((tier for tier in tiers if tier.role is Role.AGENT), None)


def _rule_new(context: _Context) -> tuple[Tier | None, str]:
    """Begin with the ladder's choice; a first turn is a beginning, even if the session's name is known."""
    facts = context.facts
    is_first_turn = facts.user_turns <= 1 and not facts.tool_result_pending
    if is_first_turn or not context.session.tier:
        return context.ladder.tiers[0], _AS_LADDER
    return None, "the conversation is known"


def _rule_unavailable(context: _Context) -> tuple[Tier | None, str]:
    """Choose again if the conversation's tier cannot serve this request."""
    if context.current is not None:
        return None, "its tier can go on"
    chosen, _ = _choose_again(context)
    previous = context.config.tiers.get(context.session.tier)
    if previous is None:
        return chosen, f"{context.session.tier} is gone"
    return chosen, explain_skip(previous, chosen, context.facts, context.state)


def _rule_pending(context: _Context) -> tuple[Tier | None, str]:
    """Never switch in the middle of a tool loop."""
    if not context.facts.tool_result_pending:
        return None, "no tool result is pending"
    return context.current, "a tool result is pending"


def _rule_asked(context: _Context) -> tuple[Tier | None, str]:
    """Follow an ultra trigger."""
    return (context.preferred, context.preferred_reason) if context.trigger else (None, "no trigger")


def _rule_returns(context: _Context) -> tuple[Tier | None, str]:
    """Return to the previous tier after a turn that asked for ultra."""
    if context.session.return_to is None:
        return None, "no turn that asked for more came before"
    previous = next((tier for tier in context.ladder.tiers if tier.name == context.session.return_to), None)
    chosen, detail = _choose_again(context)
    if previous is None or _strength(chosen) > _strength(previous):
        return chosen, detail
    return previous, "the turn that asked for more is over"


def _rule_upgrade(context: _Context) -> tuple[Tier | None, str]:
    """Move to a stronger tier if the ladder prefers one."""
    if context.current is None or _strength(context.preferred) <= _strength(context.current):
        return None, "the ladder asks for nothing stronger"
    return context.preferred, context.preferred_reason


def _rule_cache_lost(context: _Context) -> tuple[Tier | None, str]:
    """Choose again if the prompt must be read again anyway."""
    current, idle_s = context.current, context.now - context.session.last_request_at
    size, largest = context.facts.conversation_tokens, context.session.size
    is_rewritten = size < REWRITTEN * largest
    is_expired = idle_s >= IDLE_S or (current is not None and current.hosted and idle_s >= HOSTED_CACHE_S)
    is_unloaded = current is not None and current.name in context.state.evicting
    if not (is_rewritten or is_expired or is_unloaded):
        return None, f"its cache is {idle_s:.0f} s old, {size} of at most {largest} tokens"
    return _choose_again(context)


def _rule_ceiling_crossed(context: _Context) -> tuple[Tier | None, str]:
    """Leave a tier between two turns before it becomes too expensive or too small.

    A hosted tier is left at the mid ceiling, not at the high one. A local tier does not cost more for a long
    conversation, so it is left only if its window would be full in the middle of the turn.
    """
    current, weaker = context.current, _agent_tier(context.ladder.tiers) or context.preferred
    if current is None or context.preferred is current or _strength(weaker) >= _strength(current):
        return None, "no tier below is asked for"
    if current.hosted:
        size, ceiling = context.facts.conversation_tokens, context.config.routing.mid_fidelity_ceiling
        if size <= ceiling:
            return None, f"{size} <= {ceiling} tokens"
        if weaker.name in context.state.evicting:
            return None, f"{weaker.name} would unload another model"
        return weaker, f"{size} > {ceiling} tokens, {current.name} is hosted"
    if not _is_nearly_full(current, context) or _is_nearly_full(weaker, context):
        return None, f"{current.name} has room"
    return weaker, f"{current.name} holds {current.ctx_size} tokens, the turn may need more"


def _is_nearly_full(tier: Tier, context: _Context) -> bool:
    """Return whether a typical turn may not fit into the tier's window any more."""
    return context.state.needed_tokens(tier, context.facts) > (1 - TURN) * tier.ctx_size


def _rule_stays(context: _Context) -> tuple[Tier | None, str]:
    """Stay at the conversation's tier."""
    if context.current is context.ladder.tiers[0]:
        return context.current, _AS_LADDER
    return context.current, f"with {context.session.tier}; the ladder says {context.ladder.reason}"


_RULES = (
    ("new", _rule_new),
    ("unavailable", _rule_unavailable),
    ("pending", _rule_pending),
    ("asked", _rule_asked),
    ("returns", _rule_returns),
    ("upgrade", _rule_upgrade),
    ("cache_lost", _rule_cache_lost),
    ("ceiling_crossed", _rule_ceiling_crossed),
    ("stays", _rule_stays),
)


def _strength(tier: Tier) -> int:
    return _STRENGTH.get(tier.role, 0) if tier.role else 0

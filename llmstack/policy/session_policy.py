"""A conversation keeps its tier, since a switch throws its prompt cache away. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from llmstack.config.model import Role
from llmstack.policy.decision import RuleResult, Decision
from llmstack.policy.eligibility import passed_over, stand_ins
from llmstack.policy.ladder import climb, decide_by_ladder, find_trigger

if TYPE_CHECKING:
    from llmstack.config.model import StackConfig, Tier
    from llmstack.policy.decision import StackState
    from llmstack.policy.facts import RequestFacts

IDLE_S = 1800.0  # after half an hour nobody waits in the middle of something
HOSTED_CACHE_S = 300.0  # how long providers keep a prompt that nobody asks for
# Of its largest size: what shrank below was compacted or is a new topic, so that its cache is lost anyway.
REWRITTEN = 0.8
TURN = 1 / 16  # of a window: about what a turn of tool calls adds
_STRENGTH = {Role.FAST: 1, Role.AGENT: 2, Role.ULTRA: 3}


class Session(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a conversation between its requests.

    Attributes:
        tier: that served it last.
        last_request_at: seconds, of its last request, on the caller's clock.
        size: estimated tokens of the conversation at its largest since the tier was chosen.
        turns: of a human, so far.
        back: where it returns after the turn that asked for ultra, empty where it came from nowhere; None
            outside of such a turn.
    """

    tier: str
    last_request_at: float
    size: int
    turns: int = 0
    back: str | None = None


class _Case(msgspec.Struct):
    """Everything a rule looks at.

    Attributes:
        able: the tiers that can serve the request, the ladder's first; `kept` is the one that the
            conversation has, where it can go on there.
        ladder: why it chose that one.
        trigger: that the human wrote.
        wanted: the ladder's tier, but for what becomes a tool loop: that is no work for the fast tier, though
            each turn of it begins as a message; and why.
    """

    facts: RequestFacts
    config: StackConfig
    state: StackState
    session: Session
    now: float
    able: list[Tier]
    ladder: str
    trigger: str | None
    wanted: Tier
    why: str
    kept: Tier | None


def decide(
    facts: RequestFacts,
    config: StackConfig,
    state: StackState,
    session: Session | None = None,
    now: float = 0.0,
    *,
    explain: bool = False,
) -> Decision:
    """Choose the tier for a request to `auto`, given what is known of its conversation.

    Args:
        facts: what the request says.
        config: tiers, ceilings, and whether conversations stick.
        state: of the tiers.
        session: None where the conversation is new or unknown.
        now: seconds, on the clock of the session's `at`.
        explain: say which rules were tried.

    Raises:
        NoTierError: nothing is available.
        ContextOverflowError: no available tier holds the request.
    """
    if not config.routing.sticky or facts.task != "chat":
        return decide_by_ladder(facts, config, state, explain=explain)
    trigger = find_trigger(facts.last_words, config.routing)
    found = climb(facts, config, state, trigger)
    if session is None:
        session = Session("", now, 0)
    able, name = found.fitting, session.tier
    kept = next((tier for tier in able if tier.name == name), None) if name else None
    wanted, why = able[0], _AS_LADDER
    if wanted.role is Role.FAST and facts.tools and (agent := _agent(able)):
        wanted, why = agent, f"{found.reason}, but tools are offered"
    case = _Case(facts, config, state, session, now, able, found.reason, trigger, wanted, why, kept)
    tried = list(found.considered(facts, config.routing)) if explain else []
    for name, rule in _RULES:
        chosen, why = rule(case)
        if explain:
            tried.append(RuleResult(name, chosen.name if chosen else "", why))
        if chosen is not None:
            reason = found.reason if chosen is able[0] and why == _AS_LADDER else f"{name}: {why}"
            others = stand_ins(chosen, able, facts, config, state)
            return Decision(chosen.name, reason, others, trigger is not None, tuple(tried))
    raise AssertionError("the last rule always chooses")


def next_session(session: Session | None, facts: RequestFacts, decision: Decision, now: float) -> Session:
    """Return the conversation as it is once a request is served as was decided."""
    tier, size, back = decision.tier, facts.conversation_tokens, None
    same = session is not None and session.tier == tier
    if session is not None and same and size >= REWRITTEN * session.size:
        size = max(size, session.size)
    if decision.asked:
        if session is None:
            back = ""
        elif session.back is not None or not same:
            back = session.back if session.back is not None else session.tier
    elif session is not None and facts.tool_result_pending:
        back = session.back
    return Session(tier, now, size, facts.user_turns, back)


def move_session(session: Session, tier: str) -> Session:
    """Return the conversation as it is where another tier served in the end."""
    return msgspec.structs.replace(session, tier=tier)


def may_continue(session: Session, facts: RequestFacts) -> bool:
    """Return whether a request may be the next of a conversation, though its opening has changed.

    Some clients put the date or the state of a repository into the system prompt. Titles come without tools,
    sub-agents begin with a first turn.
    """
    belowturn = facts.user_turns == session.turns + (not facts.tool_result_pending)
    return facts.tools and belowturn and facts.conversation_tokens >= session.size


# The rules, first match wins. Each returns the tier it chooses, if any, and why or why not.

_AS_LADDER = "as the ladder says"


def _fresh(case: _Case) -> tuple[Tier, str]:
    """Choose as if the conversation began here.

    No model is unloaded for one that is no stronger: others would load it again.
    """
    wanted = case.wanted
    if wanted.name in case.state.evicting:
        least = _strength(wanted)
        loaded = [t for t in case.able if t.name in case.state.loaded and _strength(t) >= least]
        if loaded:
            strongest = max(loaded, key=_strength)
            return strongest, f"{wanted.name} would unload {strongest.name}, which serves as well"
    return wanted, case.why


def _agent(tiers: list[Tier]) -> Tier | None:
    return next((tier for tier in tiers if tier.role is Role.AGENT), None)


def _new(case: _Case) -> tuple[Tier | None, str]:
    """Begin as the ladder says; a first turn is a beginning, whatever was sent under the same name before."""
    facts = case.facts
    begins = facts.user_turns <= 1 and not facts.tool_result_pending
    return (case.able[0], _AS_LADDER) if begins or not case.session.tier else (None, "it is known")


def _left(case: _Case) -> tuple[Tier | None, str]:
    if case.kept is not None:
        return None, "its tier can go on"
    chosen, _ = _fresh(case)
    lost = case.config.tiers.get(case.session.tier)
    why = passed_over(lost, chosen, case.facts, case.state) if lost else f"{case.session.tier} is gone"
    return chosen, why


def _pending(case: _Case) -> tuple[Tier | None, str]:
    if not case.facts.tool_result_pending:
        return None, "no tool result is pending"
    return case.kept, "a tool result is pending"


def _asked(case: _Case) -> tuple[Tier | None, str]:
    return (case.wanted, case.why) if case.trigger else (None, "no trigger")


def _returns(case: _Case) -> tuple[Tier | None, str]:
    back = case.session.back
    if back is None:
        return None, "no other tier was lent"
    home = next((tier for tier in case.able if tier.name == back), None)
    chosen, why = _fresh(case)
    if home is None or _strength(chosen) > _strength(home):
        return chosen, why
    return home, "the turn that asked for more is over"


def _rises(case: _Case) -> tuple[Tier | None, str]:
    if case.kept is None or _strength(case.wanted) <= _strength(case.kept):
        return None, "the ladder asks for nothing stronger"
    return case.wanted, case.why


def _cold(case: _Case) -> tuple[Tier | None, str]:
    """Reopen the choice where the prompt is to be read again wherever it goes."""
    kept, idle = case.kept, case.now - case.session.last_request_at
    size, largest = case.facts.conversation_tokens, case.session.size
    rewritten = size < REWRITTEN * largest
    lapsed = idle >= IDLE_S or (kept is not None and kept.hosted and idle >= HOSTED_CACHE_S)
    unloaded = kept is not None and kept.name in case.state.evicting
    if not (rewritten or lapsed or unloaded):
        return None, f"its cache is {idle:.0f} s old, {size} of at most {largest} tokens"
    return _fresh(case)


def _crosses(case: _Case) -> tuple[Tier | None, str]:
    """Leave, between two turns, a tier that is about to be too dear or too small.

    A hosted tier is left at the second ceiling, not at the first. One of this machine costs no more for what
    is long: it is left where its window would end in the middle of the turn.
    """
    kept, below = case.kept, _agent(case.able) or case.wanted
    if kept is None or case.wanted is kept or _strength(below) >= _strength(kept):
        return None, "no tier below is asked for"
    if kept.hosted:
        size, limit = case.facts.conversation_tokens, case.config.routing.mid_fidelity_ceiling
        if size <= limit:
            return None, f"{size} <= {limit} tokens"
        if below.name in case.state.evicting:
            return None, f"{below.name} would unload another model"
        return below, f"{size} > {limit} tokens, {kept.name} is hosted"
    if not _full(kept, case) or _full(below, case):
        return None, f"{kept.name} has room"
    return below, f"{kept.name} holds {kept.ctx_size} tokens, the turn may need more"


def _full(tier: Tier, case: _Case) -> bool:
    return case.state.needed(tier, case.facts) > (1 - TURN) * tier.ctx_size


def _stays(case: _Case) -> tuple[Tier | None, str]:
    if case.kept is case.able[0]:
        return case.kept, _AS_LADDER
    return case.kept, f"with {case.session.tier}; the ladder says {case.ladder}"


_RULES = (
    ("new", _new),
    ("left", _left),
    ("pending", _pending),
    ("asked", _asked),
    ("returns", _returns),
    ("rises", _rises),
    ("cold", _cold),
    ("crosses", _crosses),
    ("stays", _stays),
)


def _strength(tier: Tier) -> int:
    return _STRENGTH.get(tier.role, 0) if tier.role else 0

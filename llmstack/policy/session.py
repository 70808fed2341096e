"""A conversation keeps its tier, since a switch throws its prompt cache away. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmstack.config.model import Role
from llmstack.policy.able import able, passed_over, stand_ins
from llmstack.policy.decision import Considered, Decision
from llmstack.policy.ladder import find_trigger, ladder, ladder_tiers

if TYPE_CHECKING:
    from llmstack.config.model import StackConfig, Tier
    from llmstack.policy.decision import StackState
    from llmstack.policy.facts import RequestFacts

IDLE_S = 1800.0  # after half an hour nobody waits in the middle of something
REWRITTEN = (
    0.8  # of its largest size: a conversation that shrank below was compacted, its cache is lost anyway
)
MARGIN = 1.25
_STRENGTH = {Role.FAST: 1, Role.AGENT: 2, Role.ULTRA: 3}


@dataclass(frozen=True, slots=True)
class Session:
    """What is kept of a conversation between its requests.

    Attributes:
        tier: that served it last.
        at: seconds, of its last request, on the caller's clock.
        size: estimated tokens of the conversation at its largest since the tier was chosen.
        turns: of a human, so far.
        back: where it returns after the turn that asked for ultra, empty where it came from nowhere; None
            outside of such a turn.
    """

    tier: str
    at: float
    size: int
    turns: int = 0
    back: str | None = None


@dataclass(slots=True)
class _Case:
    """Everything a rule looks at.

    Attributes:
        plain: what the ladder says; `wanted` its tier.
        able: the tiers that can serve the request; `kept` the one of them that the conversation has.
    """

    facts: RequestFacts
    config: StackConfig
    state: StackState
    session: Session
    now: float
    plain: Decision
    able: list[Tier]
    wanted: Tier
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
    plain = ladder(facts, config, state, explain=explain)
    if not config.routing.sticky or facts.task != "chat":
        return plain
    serving = able(ladder_tiers((), facts, config, state), facts, config, state)
    before = session or Session("", now, 0)
    kept = next((tier for tier in serving if tier.name == before.tier), None)
    case = _Case(facts, config, state, before, now, plain, serving, config.tiers[plain.tier], kept)
    missed: list[Considered] = []
    for name, rule in _RULES:
        chosen, why = rule(case)
        if chosen is not None:
            reason = plain.reason if chosen is case.wanted and why == _AS_LADDER else f"{name}: {why}"
            considered = (*plain.considered, *missed, Considered(name, chosen.name, why))
            return Decision(chosen.name, reason, _others(case, chosen), considered)
        if explain:
            missed.append(Considered(name, "", why))
    raise AssertionError("the last rule always chooses")


def _others(case: _Case, chosen: Tier) -> tuple[str, ...]:
    rest = [tier for tier in (case.wanted, *case.able) if tier is not chosen]
    return stand_ins(chosen, rest, case.facts, case.config, case.state)


def after(
    session: Session | None, facts: RequestFacts, config: StackConfig, tier: str, now: float
) -> Session:
    """Return the conversation as it is once this tier serves it."""
    size, back = facts.conversation_tokens, None
    same = session is not None and session.tier == tier
    if session is not None and same and size >= REWRITTEN * session.size:
        size = max(size, session.size)
    if find_trigger(facts.last_words, config.routing) is not None:
        if session is None:
            back = ""
        elif session.back is not None or not same:
            back = session.back if session.back is not None else session.tier
    elif session is not None and facts.tool_result_pending:
        back = session.back
    return Session(tier, now, size, facts.user_turns, back)


def moved(session: Session, tier: str) -> Session:
    """Return the conversation as it is where another tier served in the end."""
    return replace(session, tier=tier)


def continues(session: Session, facts: RequestFacts) -> bool:
    """Return whether a request may be the next of a conversation, though its opening has changed.

    Some clients put the date or the state of a repository into the system prompt. Titles come without tools,
    sub-agents begin with a first turn.
    """
    next_turn = facts.user_turns == session.turns + (not facts.tool_result_pending)
    return facts.tools and next_turn and facts.conversation_tokens >= session.size


# The rules, first match wins. Each returns the tier it chooses, if any, and why or why not.

_AS_LADDER = "as the ladder says"


def _fresh(case: _Case) -> tuple[Tier, str]:
    """Choose as if the conversation began here: the ladder, but for two things it cannot know.

    What becomes a tool loop is no work for the fast tier, though it begins with one turn; and a model that
    others are in the middle of is not unloaded where it can serve as well.
    """
    wanted, why = case.wanted, _AS_LADDER
    agent = next((tier for tier in case.able if tier.role is Role.AGENT), None)
    if wanted.role is Role.FAST and case.facts.tools and agent is not None:
        wanted, why = agent, f"{case.plain.reason}, but tools are offered"
    if wanted.name in case.state.evicting:
        busy = [
            t
            for t in case.able
            if t.name in case.state.engaged & case.state.resident and _strength(t) >= _strength(wanted)
        ]
        if busy:
            loaded = max(busy, key=_strength)
            return loaded, f"{wanted.name} would unload {loaded.name}, which is in use"
    return wanted, why


def _new(case: _Case) -> tuple[Tier | None, str]:
    return _fresh(case) if not case.session.tier else (None, f"it is with {case.session.tier}")


def _left(case: _Case) -> tuple[Tier | None, str]:
    if case.kept is not None:
        return None, f"{case.kept.name} can go on"
    chosen, _ = _fresh(case)
    lost = case.config.tiers.get(case.session.tier)
    why = passed_over(lost, chosen, case.facts, case.state) if lost else f"{case.session.tier} is gone"
    return chosen, why


def _pending(case: _Case) -> tuple[Tier | None, str]:
    if not case.facts.tool_result_pending:
        return None, "no tool result is pending"
    return case.kept, "a tool result is pending"


def _asked(case: _Case) -> tuple[Tier | None, str]:
    trigger = find_trigger(case.facts.last_words, case.config.routing)
    return (case.wanted, _AS_LADDER) if trigger else (None, "no trigger")


def _idle(case: _Case) -> tuple[Tier | None, str]:
    idle = case.now - case.session.at
    if idle < IDLE_S:
        return None, f"{idle:.0f} s < {IDLE_S:.0f} s"
    chosen, why = _fresh(case)
    return chosen, why


def _rewritten(case: _Case) -> tuple[Tier | None, str]:
    size, largest = case.facts.conversation_tokens, case.session.size
    if size >= REWRITTEN * largest:
        return None, f"{size} of at most {largest} tokens"
    return _fresh(case)


def _returns(case: _Case) -> tuple[Tier | None, str]:
    back = case.session.back
    if back is None:
        return None, "no other tier was lent"
    home = next((tier for tier in case.able if tier.name == back), None)
    if home is None or _strength(case.wanted) > _strength(home):
        return _fresh(case)
    return home, "the turn that asked for more is over"


def _rises(case: _Case) -> tuple[Tier | None, str]:
    if case.kept is None or _strength(case.wanted) <= _strength(case.kept):
        return None, f"the ladder says {case.wanted.name}"
    return case.wanted, _AS_LADDER


def _crosses(case: _Case) -> tuple[Tier | None, str]:
    kept, wanted = case.kept, case.wanted
    if kept is None or kept.role is not Role.ULTRA or wanted is kept:
        return None, "its tier serves what is long as well"
    limit = int(case.config.routing.high_fidelity_ceiling * MARGIN)
    if case.facts.conversation_tokens <= limit:
        return None, f"{case.facts.conversation_tokens} <= {limit} tokens"
    chosen, why = _fresh(case)
    if chosen.name in case.state.evicting:
        return None, f"{chosen.name} would unload another model"
    return chosen, why


def _stays(case: _Case) -> tuple[Tier | None, str]:
    if case.kept is case.wanted:
        return case.kept, _AS_LADDER
    return case.kept, f"with {case.session.tier}; the ladder says {case.plain.reason}"


_RULES = (
    ("new", _new),
    ("left", _left),
    ("pending", _pending),
    ("asked", _asked),
    ("idle", _idle),
    ("rewritten", _rewritten),
    ("returns", _returns),
    ("rises", _rises),
    ("crosses", _crosses),
    ("stays", _stays),
)


def _strength(tier: Tier) -> int:
    return _STRENGTH.get(tier.role, 0) if tier.role else 0

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmstack.config.model import BackendKind, GgufModel, Role, Routing, Settings, StackConfig, Tier
from llmstack.policy.decision import ContextOverflowError, Decision, NoTierError, StackState
from llmstack.policy.facts import RequestFacts
from llmstack.policy.ladder import auto_context, decide_by_ladder, find_trigger
from llmstack.router.routed_request import to_ascii

if TYPE_CHECKING:
    from collections.abc import Mapping


def tier(name: str, role: Role | None, ctx_size: int = 200_000) -> Tier:
    return Tier(name, BackendKind.GGUF, GgufModel(path=Path("x.gguf")), ctx_size, role=role)


NAMES = {
    Role.FAST: "code-fast",
    Role.AGENT: "code-smart",
    Role.ULTRA: "code-ultra",
    Role.PLAN: "plan",
    Role.PLAN_UNCENSORED: "plan-uncensored",
}
ALL = "fast agent ultra plan plan-uncensored"


def config(roles: str = ALL, routing: Routing | None = None, **sizes: int) -> StackConfig:
    tiers = [tier(NAMES[Role(role)], Role(role), sizes.get(role, 200_000)) for role in roles.split()]
    return StackConfig(Settings(), routing or Routing(), {tier.name: tier for tier in tiers})


def facts(size: int, **more: object) -> RequestFacts:
    return replace(RequestFacts(conversation_tokens=size, context_tokens=size), **more)


def decide(request_facts: RequestFacts, stack: StackConfig, unavailable: Mapping[str, str]) -> Decision:
    return decide_by_ladder(request_facts, stack, StackState(unavailable))


def chosen_tier(
    request_facts: RequestFacts, stack: StackConfig, unavailable: Mapping[str, str]
) -> tuple[str, str]:
    decision = decide(request_facts, stack, unavailable)
    return decision.tier, decision.reason


SHORT, MID, LONG = facts(100), facts(20_000), facts(50_000)
TURNS = facts(50_000, user_turns=10)
TOOL = facts(50_000, tool_result_pending=True)
TRIGGER = facts(100, last_words="please [ultra]")
LONG_TRIGGER = facts(50_000, last_words="opus: think")


@pytest.mark.parametrize(
    ("request_facts", "roles", "expected", "reason"),
    [
        # the five rows, with every tier available
        (TRIGGER, ALL, "code-ultra", "trigger [ultra]"),
        (LONG_TRIGGER, ALL, "code-ultra", "trigger opus:"),
        (SHORT, ALL, "code-ultra", "short: 100 <= 12000 tokens"),
        (MID, ALL, "code-smart", "mid: 20000 <= 32000 tokens"),
        (TURNS, ALL, "code-smart", "long: 50000 > 32000 tokens, 10 >= 10 user turns"),
        (TOOL, ALL, "code-smart", "long: 50000 > 32000 tokens, tool result pending"),
        (LONG, ALL, "code-fast", "long: 50000 > 32000 tokens"),
        (replace(TURNS, user_turns=9), ALL, "code-fast", "long: 50000 > 32000 tokens"),
        # a ceiling belongs to the row that it ends
        (facts(0), ALL, "code-ultra", "short: 0 <= 12000 tokens"),
        (facts(12_000), ALL, "code-ultra", "short: 12000 <= 12000 tokens"),
        (facts(12_001), ALL, "code-smart", "mid: 12001 <= 32000 tokens"),
        (facts(32_000), ALL, "code-smart", "mid: 32000 <= 32000 tokens"),
        (facts(32_001), ALL, "code-fast", "long: 32001 > 32000 tokens"),
        # a pending tool result or many turns do not affect the rows above
        (
            facts(100, tool_result_pending=True, user_turns=50),
            ALL,
            "code-ultra",
            "short: 100 <= 12000 tokens",
        ),
        # ceilings count the conversation, not tool schemas
        (facts(100, context_tokens=60_000), ALL, "code-ultra", "short: 100 <= 12000 tokens"),
        # without ultra, rows 1 and 2 go to agent
        (TRIGGER, "fast agent plan", "code-smart", "trigger [ultra]; no ultra tier"),
        (LONG_TRIGGER, "fast agent plan", "code-smart", "trigger opus:; no ultra tier"),
        (SHORT, "fast agent plan", "code-smart", "short: 100 <= 12000 tokens; no ultra tier"),
        (MID, "fast agent plan", "code-smart", "mid: 20000 <= 32000 tokens"),
        # without agent, to fast
        (SHORT, "fast plan", "code-fast", "short: 100 <= 12000 tokens; no ultra tier; no agent tier"),
        (MID, "fast ultra plan", "code-fast", "mid: 20000 <= 32000 tokens; no agent tier"),
        (
            TOOL,
            "fast ultra",
            "code-fast",
            "long: 50000 > 32000 tokens, tool result pending; no agent tier",
        ),
        # without fast, to what remains
        (LONG, "agent ultra plan", "code-smart", "long: 50000 > 32000 tokens; no fast tier"),
        (LONG, "ultra plan", "code-ultra", "long: 50000 > 32000 tokens; no fast tier"),
        (SHORT, "plan", "plan", "short: 100 <= 12000 tokens; no ultra tier; no agent tier; no fast tier"),
        (LONG, "plan", "plan", "long: 50000 > 32000 tokens; no fast tier"),
    ],
)
def test_the_ladder_chooses_by_size_turns_trigger_and_declared_roles(
    request_facts: RequestFacts, roles: str, expected: str, reason: str
) -> None:
    assert chosen_tier(request_facts, config(roles), {}) == (expected, reason)


@pytest.mark.parametrize(
    ("request_facts", "unavailable_names", "expected", "reason"),
    [
        (TRIGGER, ["code-ultra"], "code-smart", "trigger [ultra]; code-ultra unavailable"),
        (SHORT, ["code-ultra"], "code-smart", "short: 100 <= 12000 tokens; code-ultra unavailable"),
        (MID, ["code-smart"], "code-fast", "mid: 20000 <= 32000 tokens; code-smart unavailable"),
        (MID, ["code-ultra"], "code-smart", "mid: 20000 <= 32000 tokens"),
        (LONG, ["code-fast"], "code-smart", "long: 50000 > 32000 tokens; code-fast unavailable"),
        (
            SHORT,
            ["code-ultra", "code-smart", "code-fast"],
            "plan",
            "; ".join(
                ["short: 100 <= 12000 tokens"]
                + [f"{name} unavailable" for name in ("code-ultra", "code-smart", "code-fast")]
            ),
        ),
    ],
)
def test_an_unavailable_tier_is_skipped_and_named_in_the_reason(
    request_facts: RequestFacts, unavailable_names: list[str], expected: str, reason: str
) -> None:
    assert chosen_tier(request_facts, config(), dict.fromkeys(unavailable_names, "no file")) == (
        expected,
        reason,
    )


def test_the_error_names_why_each_tier_is_unavailable() -> None:
    with pytest.raises(NoTierError) as caught:
        decide(SHORT, config("fast ultra"), {"code-fast": "a.gguf is not on disk", "code-ultra": "no key"})
    assert caught.value.message == (
        "auto: no tier is available (code-fast: a.gguf is not on disk; code-ultra: no key)"
    )


@pytest.mark.parametrize("roles", ["", "plan-uncensored"])
def test_a_stack_without_roles_is_an_error(roles: str) -> None:
    with pytest.raises(NoTierError, match="no tier has the role"):
        decide(SHORT, config(roles), {})


def test_tiers_are_chosen_by_role_not_by_name() -> None:
    renamed = StackConfig(
        Settings(), Routing(), {"big": tier("big", Role.ULTRA), "code-ultra": tier("code-ultra", None)}
    )
    assert decide(SHORT, renamed, {}).tier == "big"


@pytest.mark.parametrize(
    ("request_facts", "sizes", "expected", "reason"),
    [
        (
            facts(100, context_tokens=30_000),
            {"ultra": 24_000},
            "code-smart",
            "short: 100 <= 12000 tokens; code-ultra holds 24000 of 30000 tokens",
        ),
        (
            facts(20_000, output_tokens=5_000),
            {"agent": 24_999},
            "code-fast",
            "mid: 20000 <= 32000 tokens; code-smart holds 24999 of 25000 tokens",
        ),
        (facts(20_000, output_tokens=5_000), {"agent": 25_000}, "code-smart", "mid: 20000 <= 32000 tokens"),
        (
            LONG,
            {"fast": 40_000, "agent": 45_000},
            "code-ultra",
            "long: 50000 > 32000 tokens; code-fast holds 40000 of 50000 tokens",
        ),
    ],
)
def test_a_tier_whose_window_is_too_small_is_skipped(
    request_facts: RequestFacts, sizes: dict[str, int], expected: str, reason: str
) -> None:
    assert chosen_tier(request_facts, config(ALL, None, **sizes), {}) == (expected, reason)


def test_a_request_larger_than_every_window_is_an_error() -> None:
    with pytest.raises(ContextOverflowError) as caught:
        decide(facts(300_000, output_tokens=1000), config(ultra=250_000), {})
    assert caught.value.message == (
        "the request exceeds the available context size: about 300000 tokens + 1000 for the answer, "
        "the largest window is 250000 (code-ultra)"
    )


@pytest.mark.parametrize(
    ("words", "trigger"),
    [
        ("[ultra]", "[ultra]"),
        ("do [ULTRA] it", "[ultra]"),
        ("word[Opus]word", "[opus]"),
        ("ultra: think", "ultra:"),
        ("UlTrA: think", "ultra:"),
        ("first\n  opus: second", "opus:"),
        ("first\r\nopus: second", "opus:"),
        ("consultra: no", None),
        ("please consultra:", None),
        ("say ultra: no", None),
        ("ultra : no", None),
        ("ultra", None),
        ("[ ultra ]", None),
        ("", None),
    ],
)
def test_default_triggers_match_anywhere_or_at_a_line_start(words: str, trigger: str | None) -> None:
    assert find_trigger(words, Routing()) == trigger


def test_configured_triggers_replace_the_defaults() -> None:
    routing = Routing(ultra_triggers=("!GROß", "Boss:"))
    assert find_trigger("do it !groß", routing) == "!GROß"
    assert find_trigger("boss: do it", routing) == "Boss:"
    assert find_trigger("[ultra]", routing) is None
    assert find_trigger("anything", Routing(ultra_triggers=())) is None


def test_the_window_of_auto_is_the_largest_available_one() -> None:
    assert auto_context(config(fast=10, agent=20, ultra=30, plan=40), {}) == 30
    assert auto_context(config(fast=10, agent=20, ultra=30, plan=40), {"code-ultra": "x"}) == 20
    assert auto_context(config("plan", plan=40), {}) == 40
    assert auto_context(config(""), {}) == 0


SIZES = st.sampled_from([0, 1, 100, 11_999, 12_000, 12_001, 32_000, 32_001, 65_536, 200_000])


@given(
    request_facts=st.builds(
        RequestFacts,
        conversation_tokens=SIZES,
        context_tokens=SIZES,
        user_turns=st.integers(0, 20),
        tool_result_pending=st.booleans(),
        last_words=st.sampled_from(["", "[ultra]", "ultra: x", "ü[OPUS]"]),
        output_tokens=SIZES,
    ),
    windows=st.dictionaries(st.sampled_from(list(Role)), st.sampled_from([1000, 32_000, 65_536, 300_000])),
    unavailable_names=st.sets(st.sampled_from(list(NAMES.values()))),
    routing=st.builds(
        Routing,
        ultra_triggers=st.lists(st.text(min_size=1).filter(str.strip), max_size=2).map(tuple),
    )
    | st.just(Routing()),
)
def test_a_decision_always_names_a_tier_that_can_serve(
    request_facts: RequestFacts, windows: dict[Role, int], unavailable_names: set[str], routing: Routing
) -> None:
    tiers = {NAMES[role]: tier(NAMES[role], role, window) for role, window in windows.items()}
    stack = StackConfig(Settings(), routing, tiers)
    unavailable = dict.fromkeys(unavailable_names, "down")
    needed = request_facts.context_tokens + request_facts.output_tokens
    ladder_tiers = [
        t
        for t in tiers.values()
        if t.role in {Role.FAST, Role.AGENT, Role.ULTRA} and t.name not in unavailable_names
    ]
    plan_tiers = [t for t in tiers.values() if t.role is Role.PLAN and t.name not in unavailable_names]
    allowed = ladder_tiers or plan_tiers
    try:
        decision = decide(request_facts, stack, unavailable)
    except NoTierError:
        assert not allowed
        return
    except ContextOverflowError:
        assert allowed
        assert all(t.ctx_size < needed for t in allowed)
        return
    assert decision.tier in {t.name for t in allowed if t.ctx_size >= needed}
    header = to_ascii(decision.reason)
    assert header.isascii()
    assert header.isprintable()
    assert header

"""A conversation keeps its tier: one test for each rule, then what holds for any history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from llmstack.config.model import (
    BackendKind,
    GgufModel,
    HostedModel,
    Role,
    Routing,
    Settings,
    StackConfig,
    Tier,
)
from llmstack.policy.decision import ContextOverflowError, Decision, NoTierError, NotServedError, StackState
from llmstack.policy.facts import RequestFacts
from llmstack.policy.ladder import ladder
from llmstack.policy.session_policy import Session, after, decide

LOCAL = GgufModel(path=Path("x.gguf"))
FAST = Tier("fast", BackendKind.GGUF, LOCAL, 131_072, role=Role.FAST)
AGENT = Tier("agent", BackendKind.GGUF, LOCAL, 65_536, role=Role.AGENT)
ULTRA = Tier("ultra", BackendKind.GGUF, LOCAL, 65_536, role=Role.ULTRA)
HOSTED = replace(ULTRA, backend=BackendKind.LITELLM, model=HostedModel("anthropic", "x"), ctx_size=200_000)


def stack(*tiers: Tier, sticky: bool = True) -> StackConfig:
    chosen = tiers or (FAST, AGENT, HOSTED)
    return StackConfig(Settings(), Routing(sticky=sticky), {tier.name: tier for tier in chosen})


def said(size: int, **more: object) -> RequestFacts:
    return changed(
        RequestFacts(conversation_tokens=size, context_tokens=size, tools=True, user_turns=2),
        **more,
    )


def with_(tier: str, size: int = 10_000, back: str | None = None) -> Session:
    return Session(tier, at=0.0, size=size, turns=2, back=back)


def rule(decision: Decision) -> str:
    return [each.rule for each in decision.considered if each.tier][-1]


FREE = StackState(resident=frozenset({"fast", "agent"}))
FULL = StackState(resident=frozenset({"fast", "ultra"}), evicting=frozenset({"agent"}))


@pytest.mark.parametrize(
    ("facts", "session", "state", "tier", "by"),
    [
        (said(10_000), None, FREE, "ultra", "new"),
        (said(40_000), None, FREE, "fast", "new"),
        (said(40_000, tools=False), None, FREE, "fast", "new"),
        (said(40_000, tool_result_pending=True), with_("ultra", 38_000), FREE, "ultra", "pending"),
        (said(40_000, tool_result_pending=True), with_("fast", 38_000), FREE, "fast", "pending"),
        (said(20_000, last_words="[ultra]"), with_("agent", 20_000), FREE, "ultra", "asked"),
        (said(21_000), with_("ultra", 20_000, back="agent"), FREE, "agent", "returns"),
        (said(32_000), with_("ultra", 31_000), FREE, "ultra", "stays"),
        (said(32_001), with_("ultra", 31_000), FREE, "agent", "crosses"),  # the ladder has fast
        (said(32_001, tools=False), with_("ultra", 31_000), FREE, "agent", "crosses"),
        (said(28_000), with_("agent", 32_001), FREE, "agent", "stays"),
        (said(40_000), with_("agent", 39_000), FREE, "agent", "stays"),
        (said(11_000), with_("agent", 40_000), FREE, "ultra", "rises"),
        (said(20_000, user_turns=1), with_("fast", 40_000), FREE, "agent", "new"),  # a beginning
        (said(25_000), with_("ultra", 40_000), FREE, "agent", "cold"),  # compacted
        (said(40_000, user_turns=10), with_("fast", 39_000), FREE, "agent", "rises"),
        (said(80_000, tool_result_pending=True), with_("agent", 60_000), FREE, "fast", "left"),
        (said(20_000), with_("gone", 20_000), FREE, "agent", "left"),
    ],
)
def test_rules(facts: RequestFacts, session: Session | None, state: StackState, tier: str, by: str) -> None:
    decision = decide(facts, stack(), state, session, now=60.0, explain=True)
    assert decide(facts, stack(), state, session, now=60.0) == changed(decision, considered=())
    assert (decision.tier, rule(decision)) == (tier, by)


@pytest.mark.parametrize(
    ("ultra", "pause", "state", "tier", "by"),
    [
        (HOSTED, 299.0, FREE, "ultra", "stays"),
        (HOSTED, 300.0, FREE, "agent", "cold"),  # a provider forgets
        (ULTRA, 1_799.0, FREE, "ultra", "stays"),
        (ULTRA, 1_800.0, FREE, "agent", "cold"),
        (
            ULTRA,
            60.0,
            StackState(resident=frozenset({"agent"}), evicting=frozenset({"ultra"})),
            "agent",
            "cold",
        ),
        (ULTRA, 1_800.0, FULL, "ultra", "cold"),
    ],
)
def test_the_choice_is_reopened_where_the_cache_is_gone(
    ultra: Tier, pause: float, state: StackState, tier: str, by: str
) -> None:
    facts, config = said(14_000), stack(FAST, AGENT, ultra)
    decision = decide(facts, config, state, with_("ultra", 13_000), now=pause, explain=True)
    assert (decision.tier, rule(decision)) == (tier, by)


def test_no_ceiling_is_worth_unloading_a_model_for() -> None:
    local = stack(FAST, AGENT, ULTRA)
    decision = decide(said(30_000), local, FULL, with_("ultra"), now=60.0)
    assert (decision.tier, decision.reason) == (
        "ultra",
        "stays: with ultra; the ladder says mid: 30000 <= 32000 tokens",
    )
    new = decide(said(30_000), local, FULL)
    assert (new.tier, new.reason) == ("agent", "mid: 30000 <= 32000 tokens"), "a beginning is the ladder's"
    assert decide(said(30_000), local, StackState(evicting=frozenset({"agent"}))).tier == "agent"
    weaker = StackState(resident=frozenset({"fast", "agent"}), evicting=frozenset({"ultra"}))
    assert decide(said(10_000), local, weaker).tier == "ultra"


def test_a_window_is_left_between_two_turns_rather_than_within_one() -> None:
    local = stack(FAST, replace(AGENT, ctx_size=131_072), ULTRA)
    before, after_ = with_("ultra", 55_000), said(61_441)
    assert decide(said(61_440), local, FREE, before, now=9.0).tier == "ultra"
    decision = decide(after_, local, FREE, before, now=9.0)
    assert (decision.tier, decision.reason) == (
        "agent",
        "crosses: ultra holds 65536 tokens, the turn may need more",
    )
    assert decide(changed(after_, tool_result_pending=True), local, FREE, before, now=9.0).tier == "ultra"
    assert decide(after_, stack(FAST, AGENT, ULTRA), FREE, before, now=9.0).tier == "ultra"  # no roomier


def test_a_tier_that_failed_is_left_at_once_and_named() -> None:
    cooling = changed(FREE, cooling={"agent": "is rate-limited, tried again in 5 s"})
    facts = said(20_000, tool_result_pending=True)
    decision = decide(facts, stack(), cooling, with_("agent", 19_000), now=5.0)
    assert decision.tier == "fast"
    assert decision.reason == "left: agent cooling: is rate-limited, tried again in 5 s"


def test_where_every_tier_failed_a_conversation_stays_and_says_so() -> None:
    cooling = changed(FREE, cooling=dict.fromkeys(("fast", "agent", "ultra"), "failed, tried again in 5 s"))
    facts = said(20_000, tool_result_pending=True)
    kept = decide(facts, stack(), cooling, with_("agent", 19_000), now=5.0)
    assert (kept.tier, kept.reason) == ("agent", "pending: a tool result is pending")
    new = decide(said(20_000), stack(), cooling)
    assert (new.tier, new.reason) == (
        "agent",
        "mid: 20000 <= 32000 tokens; nothing else serves, agent cooling: failed, tried again in 5 s",
    )


def test_a_trigger_lasts_for_its_turn() -> None:
    config, session, served = stack(), with_("agent", 20_000), []
    for facts in (
        said(20_100, last_words="[ultra] think"),
        said(20_200, last_words="[ultra] think", tool_result_pending=True),
        said(20_300, last_words="thanks", user_turns=3),
        said(20_400, last_words="thanks", user_turns=3, tool_result_pending=True),
    ):
        decision = decide(facts, config, FREE, session, now=1.0)
        session = after(session, facts, decision, 1.0)
        served.append(decision.tier)
    assert served == ["ultra", "ultra", "agent", "agent"]


def test_windows_are_compared_with_measured_tokens_and_ceilings_are_not() -> None:
    bytes_each = changed(FREE, factors={"ultra": 4.0, "agent": 4.0})
    small = stack(FAST, AGENT, replace(ULTRA, ctx_size=16_000))
    decision = decide(said(5_000), small, bytes_each)
    assert decision.tier == "agent"
    assert decision.reason == "short: 5000 <= 12000 tokens; ultra holds 16000 of 20000 tokens"


def test_an_image_goes_to_a_tier_that_sees() -> None:
    sees = replace(AGENT, modalities=("text", "image"))
    decision = decide(said(100, images=True), stack(FAST, sees, HOSTED), FREE, with_("ultra"), now=1.0)
    assert (decision.tier, decision.others) == ("agent", ())
    blind = decide(said(100, images=True), stack(), FREE)
    assert (blind.tier, blind.reason) == ("ultra", "short: 100 <= 12000 tokens; no tier reads images")
    with pytest.raises(ContextOverflowError):
        decide(said(100_000, images=True), stack(FAST, sees, HOSTED), FREE)


def test_embeddings_go_to_what_is_made_for_them_and_to_nothing_else() -> None:
    embeds = Tier("vectors", BackendKind.GGUF, LOCAL, 8_192, serves="embedding")
    decision = decide(said(100, task="embedding"), stack(FAST, AGENT, embeds), FREE)
    assert (decision.tier, decision.others) == ("vectors", ())
    with pytest.raises(NotServedError, match="no tier is declared for embedding"):
        decide(said(100, task="embedding"), stack(), FREE)
    with pytest.raises(NotServedError, match="infill is for the roles fast and agent"):
        decide(said(100, task="infill"), stack(HOSTED), FREE)
    with pytest.raises(NoTierError, match="vectors: x"):
        decide(said(100, task="embedding"), stack(FAST, embeds), StackState({"vectors": "x"}))
    assert decide(said(100, task="infill"), stack(), FREE).tier == "fast"
    assert decide(said(100, task="infill"), stack(AGENT, HOSTED), FREE).tier == "agent"


def test_a_hosted_tier_takes_nothing_from_a_local_one_unless_it_is_named() -> None:
    assert decide(said(20_000), stack(), FREE).others == ("fast",)
    named = stack(FAST, replace(AGENT, fallback=("ultra",)), HOSTED)
    assert decide(said(20_000), named, FREE).others == ("ultra", "fast")
    assert decide(said(100), stack(), FREE).others == ("agent", "fast")


SIZES = st.sampled_from([0, 100, 11_999, 12_001, 15_001, 31_999, 40_000, 65_000, 70_000, 140_000])
NAMES = ("fast", "agent", "ultra")
STATES = st.builds(
    lambda down, cooling, resident, evicting, factor: StackState(
        dict.fromkeys(down, "x"), dict.fromkeys(cooling, "y"), resident, evicting, {"agent": factor}
    ),
    *(st.frozensets(st.sampled_from(NAMES), max_size=2) for _ in range(4)),
    st.sampled_from([0.5, 1.0, 4.0]),
)
REQUESTS = st.builds(
    said,
    SIZES,
    output_tokens=st.sampled_from([0, 4_096]),
    user_turns=st.integers(0, 12),
    tool_result_pending=st.booleans(),
    tools=st.booleans(),
    images=st.booleans(),
    last_words=st.sampled_from(["", "[ultra]"]),
)
HISTORIES = st.lists(
    st.tuples(REQUESTS, STATES, st.sampled_from([1.0, 400.0, 4_000.0])), min_size=1, max_size=12
)


@given(HISTORIES, st.sampled_from([HOSTED, ULTRA, replace(HOSTED, modalities=("text", "image"))]))
def test_whatever_the_history(history: list[tuple[RequestFacts, StackState, float]], ultra: Tier) -> None:
    config, plain = stack(FAST, AGENT, ultra), stack(FAST, AGENT, ultra, sticky=False)
    session, now = None, 0.0
    for facts, state, pause in history:
        now += pause
        by_ladder = ladder(facts, plain, state) if _fits(facts, config, state) else None
        if by_ladder is None:
            with pytest.raises(ContextOverflowError):
                decide(facts, config, state, session, now)
            continue
        assert decide(facts, plain, state, session, now) == by_ladder
        decision = decide(facts, config, state, session, now)
        assert decision == decide(facts, config, state, session, now)
        tier = config.tiers[decision.tier]
        assert state.holds(tier, facts)
        assert tier.name not in state.unavailable
        assert all(state.holds(config.tiers[name], facts) for name in decision.others)
        assert "\n" not in decision.reason
        assert decision.reason
        if session is not None and facts.tool_result_pending and session.tier != tier.name:
            assert rule(decide(facts, config, state, session, now, explain=True)) == "left"
        session = after(session, facts, decision, now)


def _fits(facts: RequestFacts, config: StackConfig, state: StackState) -> bool:
    up = [tier for tier in config.tiers.values() if tier.name not in state.unavailable]
    seeing = [tier for tier in up if "image" in tier.modalities] if facts.images else []
    return any(state.holds(tier, facts) for tier in seeing or up)

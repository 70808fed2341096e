"""A conversation keeps its tier: one test per rule, then invariants of any history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replace_fields

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
from llmstack.policy.ladder import decide_by_ladder
from llmstack.policy.session_policy import Session, decide, next_session

LOCAL = GgufModel(path=Path("x.gguf"))
FAST = Tier("fast", BackendKind.GGUF, LOCAL, 131_072, role=Role.FAST)
AGENT = Tier("agent", BackendKind.GGUF, LOCAL, 65_536, role=Role.AGENT)
ULTRA = Tier("ultra", BackendKind.GGUF, LOCAL, 65_536, role=Role.ULTRA)
HOSTED = replace(ULTRA, backend=BackendKind.LITELLM, model=HostedModel("anthropic", "x"), ctx_size=200_000)


def make_config(*tiers: Tier, sticky: bool = True) -> StackConfig:
    chosen = tiers or (FAST, AGENT, HOSTED)
    return StackConfig(Settings(), Routing(sticky=sticky), {tier.name: tier for tier in chosen})


def make_facts(size: int, **more: object) -> RequestFacts:
    return replace_fields(
        RequestFacts(conversation_tokens=size, context_tokens=size, tools=True, user_turns=2),
        **more,
    )


def session_at(tier: str, size: int = 10_000, return_to: str | None = None) -> Session:
    return Session(tier, last_request_at=0.0, size=size, turns=2, return_to=return_to)


def deciding_rule(decision: Decision) -> str:
    return [result.rule for result in decision.considered if result.tier][-1]


ROOM_FOR_ALL = StackState(loaded=frozenset({"fast", "agent"}))
ULTRA_LOADED = StackState(loaded=frozenset({"fast", "ultra"}), evicting=frozenset({"agent"}))


@pytest.mark.parametrize(
    ("facts", "session", "state", "tier", "rule"),
    [
        (make_facts(10_000), None, ROOM_FOR_ALL, "ultra", "new"),
        (make_facts(40_000), None, ROOM_FOR_ALL, "fast", "new"),
        (make_facts(40_000, tools=False), None, ROOM_FOR_ALL, "fast", "new"),
        (
            make_facts(40_000, tool_result_pending=True),
            session_at("ultra", 38_000),
            ROOM_FOR_ALL,
            "ultra",
            "pending",
        ),
        (
            make_facts(40_000, tool_result_pending=True),
            session_at("fast", 38_000),
            ROOM_FOR_ALL,
            "fast",
            "pending",
        ),
        (
            make_facts(20_000, last_words="[ultra]"),
            session_at("agent", 20_000),
            ROOM_FOR_ALL,
            "ultra",
            "asked",
        ),
        (
            make_facts(21_000),
            session_at("ultra", 20_000, return_to="agent"),
            ROOM_FOR_ALL,
            "agent",
            "returns",
        ),
        (make_facts(32_000), session_at("ultra", 31_000), ROOM_FOR_ALL, "ultra", "stays"),
        (
            make_facts(32_001),
            session_at("ultra", 31_000),
            ROOM_FOR_ALL,
            "agent",
            "ceiling_crossed",
        ),  # the ladder chooses fast
        (
            make_facts(32_001, tools=False),
            session_at("ultra", 31_000),
            ROOM_FOR_ALL,
            "agent",
            "ceiling_crossed",
        ),
        (make_facts(28_000), session_at("agent", 32_001), ROOM_FOR_ALL, "agent", "stays"),
        (make_facts(40_000), session_at("agent", 39_000), ROOM_FOR_ALL, "agent", "stays"),
        (make_facts(11_000), session_at("agent", 40_000), ROOM_FOR_ALL, "ultra", "upgrade"),
        (
            make_facts(20_000, user_turns=1),
            session_at("fast", 40_000),
            ROOM_FOR_ALL,
            "agent",
            "new",
        ),  # a first turn
        (make_facts(25_000), session_at("ultra", 40_000), ROOM_FOR_ALL, "agent", "cache_lost"),  # compacted
        (make_facts(40_000, user_turns=10), session_at("fast", 39_000), ROOM_FOR_ALL, "agent", "upgrade"),
        (
            make_facts(80_000, tool_result_pending=True),
            session_at("agent", 60_000),
            ROOM_FOR_ALL,
            "fast",
            "unavailable",
        ),
        (make_facts(20_000), session_at("gone", 20_000), ROOM_FOR_ALL, "agent", "unavailable"),
    ],
)
def test_each_rule_chooses_its_tier(
    facts: RequestFacts, session: Session | None, state: StackState, tier: str, rule: str
) -> None:
    decision = decide(facts, make_config(), state, session, now=60.0, explain=True)
    assert decide(facts, make_config(), state, session, now=60.0) == replace_fields(decision, considered=())
    assert (decision.tier, deciding_rule(decision)) == (tier, rule)


@pytest.mark.parametrize(
    ("ultra", "pause", "state", "tier", "rule"),
    [
        (HOSTED, 299.0, ROOM_FOR_ALL, "ultra", "stays"),
        (HOSTED, 300.0, ROOM_FOR_ALL, "agent", "cache_lost"),  # a provider's cache expires
        (ULTRA, 1_799.0, ROOM_FOR_ALL, "ultra", "stays"),
        (ULTRA, 1_800.0, ROOM_FOR_ALL, "agent", "cache_lost"),
        (
            ULTRA,
            60.0,
            StackState(loaded=frozenset({"agent"}), evicting=frozenset({"ultra"})),
            "agent",
            "cache_lost",
        ),
        (ULTRA, 1_800.0, ULTRA_LOADED, "ultra", "cache_lost"),
    ],
)
def test_the_tier_is_chosen_again_if_the_cache_is_lost(
    ultra: Tier, pause: float, state: StackState, tier: str, rule: str
) -> None:
    facts, config = make_facts(14_000), make_config(FAST, AGENT, ultra)
    decision = decide(facts, config, state, session_at("ultra", 13_000), now=pause, explain=True)
    assert (decision.tier, deciding_rule(decision)) == (tier, rule)


def test_crossing_a_ceiling_does_not_unload_a_model() -> None:
    local = make_config(FAST, AGENT, ULTRA)
    decision = decide(make_facts(30_000), local, ULTRA_LOADED, session_at("ultra"), now=60.0)
    assert (decision.tier, decision.reason) == (
        "ultra",
        "stays: with ultra; the ladder says mid: 30000 <= 32000 tokens",
    )
    new = decide(make_facts(30_000), local, ULTRA_LOADED)
    assert (new.tier, new.reason) == ("agent", "mid: 30000 <= 32000 tokens"), "a beginning is the ladder's"
    assert decide(make_facts(30_000), local, StackState(evicting=frozenset({"agent"}))).tier == "agent"
    weaker = StackState(loaded=frozenset({"fast", "agent"}), evicting=frozenset({"ultra"}))
    assert decide(make_facts(10_000), local, weaker).tier == "ultra"


def test_a_tier_that_is_nearly_full_is_left_between_two_turns() -> None:
    local = make_config(FAST, replace(AGENT, ctx_size=131_072), ULTRA)
    before, facts = session_at("ultra", 55_000), make_facts(61_441)
    assert decide(make_facts(61_440), local, ROOM_FOR_ALL, before, now=9.0).tier == "ultra"
    decision = decide(facts, local, ROOM_FOR_ALL, before, now=9.0)
    assert (decision.tier, decision.reason) == (
        "agent",
        "ceiling_crossed: ultra holds 65536 tokens, the turn may need more",
    )
    assert (
        decide(replace_fields(facts, tool_result_pending=True), local, ROOM_FOR_ALL, before, now=9.0).tier
        == "ultra"
    )
    assert (
        decide(facts, make_config(FAST, AGENT, ULTRA), ROOM_FOR_ALL, before, now=9.0).tier == "ultra"
    )  # the agent tier has no larger window


def test_a_tier_that_failed_is_left_at_once_and_named_in_the_reason() -> None:
    cooling = replace_fields(ROOM_FOR_ALL, cooling={"agent": "is rate-limited, tried again in 5 s"})
    facts = make_facts(20_000, tool_result_pending=True)
    decision = decide(facts, make_config(), cooling, session_at("agent", 19_000), now=5.0)
    assert decision.tier == "fast"
    assert decision.reason == "unavailable: agent cooling: is rate-limited, tried again in 5 s"


def test_a_conversation_stays_if_every_tier_failed() -> None:
    cooling = replace_fields(
        ROOM_FOR_ALL, cooling=dict.fromkeys(("fast", "agent", "ultra"), "failed, tried again in 5 s")
    )
    facts = make_facts(20_000, tool_result_pending=True)
    current = decide(facts, make_config(), cooling, session_at("agent", 19_000), now=5.0)
    assert (current.tier, current.reason) == ("agent", "pending: a tool result is pending")
    new = decide(make_facts(20_000), make_config(), cooling)
    assert (new.tier, new.reason) == (
        "agent",
        "mid: 20000 <= 32000 tokens; nothing else serves, agent cooling: failed, tried again in 5 s",
    )


def test_a_trigger_lasts_for_one_turn() -> None:
    config, session, tiers = make_config(), session_at("agent", 20_000), []
    for facts in (
        make_facts(20_100, last_words="[ultra] think"),
        make_facts(20_200, last_words="[ultra] think", tool_result_pending=True),
        make_facts(20_300, last_words="thanks", user_turns=3),
        make_facts(20_400, last_words="thanks", user_turns=3, tool_result_pending=True),
    ):
        decision = decide(facts, config, ROOM_FOR_ALL, session, now=1.0)
        session = next_session(session, facts, decision, 1.0)
        tiers.append(decision.tier)
    assert tiers == ["ultra", "ultra", "agent", "agent"]


def test_windows_use_measured_tokens_and_ceilings_use_estimates() -> None:
    bytes_each = replace_fields(ROOM_FOR_ALL, factors={"ultra": 4.0, "agent": 4.0})
    small = make_config(FAST, AGENT, replace(ULTRA, ctx_size=16_000))
    decision = decide(make_facts(5_000), small, bytes_each)
    assert decision.tier == "agent"
    assert decision.reason == "short: 5000 <= 12000 tokens; ultra holds 16000 of 20000 tokens"


def test_an_image_goes_to_a_tier_that_reads_images() -> None:
    sees = replace(AGENT, modalities=("text", "image"))
    decision = decide(
        make_facts(100, images=True),
        make_config(FAST, sees, HOSTED),
        ROOM_FOR_ALL,
        session_at("ultra"),
        now=1.0,
    )
    assert (decision.tier, decision.others) == ("agent", ())
    blind = decide(make_facts(100, images=True), make_config(), ROOM_FOR_ALL)
    assert (blind.tier, blind.reason) == ("ultra", "short: 100 <= 12000 tokens; no tier reads images")
    with pytest.raises(ContextOverflowError):
        decide(make_facts(100_000, images=True), make_config(FAST, sees, HOSTED), ROOM_FOR_ALL)


def test_embeddings_go_only_to_tiers_that_serve_them() -> None:
    embeds = Tier("vectors", BackendKind.GGUF, LOCAL, 8_192, serves="embedding")
    decision = decide(make_facts(100, task="embedding"), make_config(FAST, AGENT, embeds), ROOM_FOR_ALL)
    assert (decision.tier, decision.others) == ("vectors", ())
    with pytest.raises(NotServedError, match="no tier is declared for embedding"):
        decide(make_facts(100, task="embedding"), make_config(), ROOM_FOR_ALL)
    with pytest.raises(NotServedError, match="infill is for the roles fast and agent"):
        decide(make_facts(100, task="infill"), make_config(HOSTED), ROOM_FOR_ALL)
    with pytest.raises(NoTierError, match="vectors: x"):
        decide(make_facts(100, task="embedding"), make_config(FAST, embeds), StackState({"vectors": "x"}))
    assert decide(make_facts(100, task="infill"), make_config(), ROOM_FOR_ALL).tier == "fast"
    assert decide(make_facts(100, task="infill"), make_config(AGENT, HOSTED), ROOM_FOR_ALL).tier == "agent"


def test_a_hosted_tier_replaces_a_local_one_only_if_fallback_names_it() -> None:
    assert decide(make_facts(20_000), make_config(), ROOM_FOR_ALL).others == ("fast",)
    with_fallback = make_config(FAST, replace(AGENT, fallback=("ultra",)), HOSTED)
    assert decide(make_facts(20_000), with_fallback, ROOM_FOR_ALL).others == ("ultra", "fast")
    assert decide(make_facts(100), make_config(), ROOM_FOR_ALL).others == ("agent", "fast")


SIZES = st.sampled_from([0, 100, 11_999, 12_001, 15_001, 31_999, 40_000, 65_000, 70_000, 140_000])
NAMES = ("fast", "agent", "ultra")
STATES = st.builds(
    lambda down, cooling, loaded, evicting, factor: StackState(
        dict.fromkeys(down, "x"), dict.fromkeys(cooling, "y"), loaded, evicting, {"agent": factor}
    ),
    *(st.frozensets(st.sampled_from(NAMES), max_size=2) for _ in range(4)),
    st.sampled_from([0.5, 1.0, 4.0]),
)
REQUESTS = st.builds(
    make_facts,
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
def test_every_history_keeps_the_invariants(
    history: list[tuple[RequestFacts, StackState, float]], ultra: Tier
) -> None:
    config, plain = make_config(FAST, AGENT, ultra), make_config(FAST, AGENT, ultra, sticky=False)
    session, now = None, 0.0
    for facts, state, pause in history:
        now += pause
        expected = decide_by_ladder(facts, plain, state) if _fits(facts, config, state) else None
        if expected is None:
            with pytest.raises(ContextOverflowError):
                decide(facts, config, state, session, now)
            continue
        assert decide(facts, plain, state, session, now) == expected
        decision = decide(facts, config, state, session, now)
        assert decision == decide(facts, config, state, session, now)
        tier = config.tiers[decision.tier]
        assert state.fits(tier, facts)
        assert tier.name not in state.unavailable
        assert all(state.fits(config.tiers[name], facts) for name in decision.others)
        assert "\n" not in decision.reason
        assert decision.reason
        if session is not None and facts.tool_result_pending and session.tier != tier.name:
            assert deciding_rule(decide(facts, config, state, session, now, explain=True)) == "unavailable"
        session = next_session(session, facts, decision, now)


def _fits(facts: RequestFacts, config: StackConfig, state: StackState) -> bool:
    up = [tier for tier in config.tiers.values() if tier.name not in state.unavailable]
    seeing = [tier for tier in up if "image" in tier.modalities] if facts.images else []
    return any(state.fits(tier, facts) for tier in seeing or up)

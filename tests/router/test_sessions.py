"""What the router remembers of conversations, and how that affects routing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed
from router.clients import request, well_behaved
from router.harness import FAST, SMART, FakeSwapper, IncomingRequest, Setup, config, stack

from llmstack.config.model import Routing
from llmstack.policy.decision import Decision
from llmstack.policy.facts import RequestFacts
from llmstack.router.sessions import MAX_AGE_S, MAX_FACTOR, MAX_SESSIONS, Sessions, prompt_tokens_in

FACTS = RequestFacts(5_000, 6_000, user_turns=1, tools=True)
MAIN, TITLE = "main", "title"
JSON = {"content-type": "application/json"}


def test_another_opening_with_the_same_session_name_is_another_conversation() -> None:
    sessions = Sessions()
    main = sessions.find_key("ses_1", MAIN, FACTS)
    sessions.remember(main, FACTS, Decision("code-smart", "short"))
    title = sessions.find_key("ses_1", TITLE, RequestFacts(100, 100, user_turns=1))
    child = sessions.find_key("ses_1", "child", changed(FACTS, conversation_tokens=9_000))
    assert (
        len({main, title, child, sessions.find_key("ses_2", MAIN, FACTS), sessions.find_key("", MAIN, FACTS)})
        == 5
    )
    assert sessions.find_key("", "", FACTS) == ""
    assert sessions.get(title) is None


def test_an_opening_that_changes_with_the_date_is_the_same_conversation() -> None:
    sessions = Sessions()
    main = sessions.find_key("ses_1", MAIN, FACTS)
    sessions.remember(main, FACTS, Decision("code-smart", "short"))
    later = changed(FACTS, conversation_tokens=6_000, tool_result_pending=True)
    assert sessions.find_key("ses_1", "tomorrow", later) == main
    assert sessions.find_key("ses_1", "tomorrow", changed(later, tools=False)) != main


def test_sessions_are_bounded_in_number_and_age() -> None:
    now = [0.0]
    sessions = Sessions(clock=lambda: now[0])
    for number in range(MAX_SESSIONS + 5):
        sessions.remember(f"k{number}", FACTS, Decision("code-fast", "short"))
    assert len(sessions) == MAX_SESSIONS
    assert sessions.get("k0") is None
    now[0] = MAX_AGE_S + 1
    sessions.remember("new", FACTS, Decision("code-smart", "short"))
    assert len(sessions) == 1


def test_the_token_factor_rises_at_once_and_falls_slowly() -> None:
    sessions = Sessions()
    sessions.observe("t", 10, 900)  # too short to measure
    assert sessions.factors == {}
    sessions.observe("t", 1_000, 4_000)
    assert sessions.factors == {"t": 4.0}
    sessions.observe("t", 1_000, 1_000)
    assert 3.4 < sessions.factors["t"] < 3.6
    for _ in range(60):
        sessions.observe("t", 1_000, 1_000)
    assert 1.0 <= sessions.factors["t"] < 1.01
    sessions.observe("t", 1_000, 10**9)
    assert 2.5 < sessions.factors["t"] <= MAX_FACTOR
    sessions.forget(["t"])
    sessions.note_overflow("t", 3_000, 12_000)
    assert 4.0 < sessions.factors["t"] < 4.01
    sessions.note_overflow("t", 3_000, 12_000, 15_000)
    assert sessions.factors == {"t": 5.0}
    sessions.note_overflow("t", 3_000, 18_000, 15_000)  # its window is smaller than declared
    assert 6.0 < sessions.factors["t"] < 6.01


@pytest.mark.parametrize(
    ("error", "count"),
    [
        (
            b'{"error":{"type":"exceed_context_size_error","n_prompt_tokens":41,"n_ctx":9}}',
            41,
        ),
        (b'{"error": {"n_prompt_tokens": 41}}', 41),
        (b'{"error": {"n_prompt_tokens": null}}', None),
        (b'{"error": {"message": "maximum context length"}}', None),
        (b"\xff", None),
    ],
)
def test_the_token_count_is_read_from_an_engines_error(error: bytes, count: int | None) -> None:
    assert prompt_tokens_in(error) == count


def body(text: str, size: int, *, pending: bool = False) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": text},
        {"role": "user", "content": "x" * size},
    ]
    if pending:
        call = {"id": "1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
        messages += [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "done"},
        ]
    tools = [{"type": "function", "function": {"name": "read", "parameters": {}}}]
    return {"model": "auto", "messages": messages, "tools": tools}


CEILINGS = Setup(
    config(FAST, SMART, routing=Routing(high_fidelity_ceiling=1_000, mid_fidelity_ceiling=2_000))
)
PLAIN = replace(
    CEILINGS, stack=replace(CEILINGS.stack, routing=replace(CEILINGS.stack.routing, sticky=False))
)


async def test_a_conversation_keeps_its_tier_and_route_explains_it_without_side_effects() -> None:
    swapper = FakeSwapper()
    async with stack(well_behaved, CEILINGS, swapper) as (running, _):
        headers = {"x-session-affinity": "ses_1"}

        async def tier_of(sent: dict[str, Any]) -> tuple[str, str]:
            answer = await request(running, "POST", "/v1/chat/completions", sent, headers=headers)
            return answer.headers["x-llmstack-tier"], answer.headers["x-llmstack-reason"]

        assert (await tier_of(body("first", 6_000)))[0] == "code-smart"
        assert await tier_of(body("first", 20_000)) == (
            "code-smart",
            "stays: with code-smart; the ladder says long: 5001 > 2000 tokens",
        )
        assert len(set(swapper.sessions)) == 1
        question = {"body": body("first", 20_000), "session": "ses_1"}
        route = json.loads((await request(running, "POST", "/llmstack/route", question, JSON)).body)
        assert (route["tier"], route["session_known"], route["others"]) == ("code-smart", True, ["code-fast"])
        assert [rule["rule"] for rule in route["considered"]][-1] == "stays"
        stranger = {"body": body("other", 20_000), "session": "ses_2"}
        for _ in range(2):
            route = json.loads((await request(running, "POST", "/llmstack/route", stranger, JSON)).body)
            assert route["session_known"] is False


async def test_without_sticky_each_request_is_routed_on_its_own() -> None:
    async with stack(well_behaved, PLAIN) as (running, _):
        for pending, tier in ((False, "code-fast"), (True, "code-smart"), (False, "code-fast")):
            sent = body("first", 20_000, pending=pending)
            answer = await request(running, "POST", "/v1/chat/completions", sent)
            assert answer.headers["x-llmstack-tier"] == tier


async def test_token_counts_of_the_server_improve_the_estimate() -> None:
    async def counts(request: IncomingRequest) -> None:
        usage = {"prompt_tokens": 8_000, "completion_tokens": 1, "total_tokens": 8_001}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
        await request.respond(json.dumps({"choices": [choice], "usage": usage}).encode())

    small = Setup(config(replace(FAST, ctx_size=100_000), replace(SMART, ctx_size=20_000)))
    async with stack(counts, small) as (running, _):
        sent = {"messages": [{"role": "user", "content": "x" * 8_000}]}
        answer = await request(running, "POST", "/v1/chat/completions", sent)
        assert answer.headers["x-llmstack-tier"] == "code-smart"
        await running.wait_until_idle()
        sent = {"messages": [{"role": "user", "content": "y" * 24_000}]}
        answer = await request(running, "POST", "/v1/chat/completions", sent)
        assert answer.headers["x-llmstack-tier"] == "code-fast"
        assert "code-smart holds 20000 of 24000 tokens" in answer.headers["x-llmstack-reason"]

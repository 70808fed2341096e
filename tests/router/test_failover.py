"""Another tier serves if the chosen one fails before its first byte of content, and the response says so."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from router.clients import chat, chat_request, request, well_behaved
from router.harness import (
    FAST,
    PLAN,
    SMART,
    ULTRA,
    FakeSwapper,
    IncomingRequest,
    Setup,
    config,
    stack,
    wait_until,
)

from llmstack.config.model import BackendKind, HostedModel, Routing
from llmstack.router.failover import Cooldowns, classify_error, requested_pause
from llmstack.router.keepalive import WaitTimeouts
from llmstack.serving.errors import TierUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from router.harness import RunningRouter

Script = "Callable[[Asked], Awaitable[None]]"


def by_model(
    **scripts: Callable[[IncomingRequest], Awaitable[None]],
) -> Callable[[IncomingRequest], Awaitable[None]]:
    """Return a script that runs another script for each of some tiers (names with `_`)."""

    async def answer(request: IncomingRequest) -> None:
        name = json.loads(request.body)["model"].replace("-", "_")
        await scripts.get(name, well_behaved)(request)

    return answer


def failing(status: str, body: Any = None, *headers: str) -> Callable[[IncomingRequest], Awaitable[None]]:
    async def answer(request: IncomingRequest) -> None:
        data = json.dumps(body or {"error": {"message": "no"}}).encode()
        head = "\r\n".join(
            (f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(data)}", *headers)
        )
        await request.send(f"{head}\r\n\r\n".encode() + data)

    return answer


async def resets(request: IncomingRequest) -> None:
    request.reset()


async def ends_at_once(request: IncomingRequest) -> None:
    await request.start_stream()
    await request.end_stream()


async def starts_with_an_error(request: IncomingRequest) -> None:
    await request.start_stream()
    await request.chunk(b'data: {"error":{"message":"out of memory"}}\n\n')
    await request.end_stream()


async def comments_before_an_error(request: IncomingRequest) -> None:
    await request.start_stream()
    await request.chunk(b": reading the prompt\n\n")
    await request.chunk(b":\r\n\r\n")
    await request.chunk(b': \n\ndata: {"error":{"message":"out of memory"}}\n\n')
    await request.end_stream()


async def comments_alone(request: IncomingRequest) -> None:
    await request.start_stream()
    await request.chunk(b": reading the prompt\n\n")
    await request.end_stream()


async def tier_and_reason(running: RunningRouter, body: dict[str, Any]) -> tuple[int, str, str]:
    reply = await chat(running, body)
    return reply.status, reply.headers["x-llmstack-tier"], reply.headers["x-llmstack-reason"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "why"),
    [
        (failing("500 Oops"), "failed (500)"),
        (failing("429 Slow", None, "retry-after: 30"), "is rate-limited"),
        (failing("402 Pay"), "was refused (402)"),
        (failing("400 Bad", {"error": {"message": "credit balance is too low"}}), "was refused (400)"),
        (failing("401 Who"), "was refused (401)"),
        (resets, "is not reachable"),
    ],
)
async def test_the_next_best_tier_serves_and_the_response_says_why(
    script: Callable[[IncomingRequest], Awaitable[None]], why: str, *, stream: bool
) -> None:
    async with stack(by_model(code_ultra=script)) as (running, server):
        expected = f"short: 1 <= 12000 tokens; code-smart serves: code-ultra {why}"
        assert await tier_and_reason(running, chat_request(stream=stream)) == (200, "code-smart", expected)
        assert running.recent[-1]["outcome"] == "ok"
        models = [json.loads(request.body)["model"] for request in server.requests]
        assert models == ["code-ultra", "code-smart"]
        # While it cools down, no request is sent to it.
        status, tier, reason = await tier_and_reason(running, chat_request(stream=stream))
        assert (status, tier) == (200, "code-smart")
        assert why in reason
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "script", [ends_at_once, starts_with_an_error, comments_before_an_error, comments_alone]
)
async def test_a_stream_that_fails_before_its_first_token_moves_to_another_tier(
    script: Callable[[IncomingRequest], Awaitable[None]],
) -> None:
    async with stack(by_model(code_ultra=script)) as (running, _):
        status, tier, reason = await tier_and_reason(running, chat_request(stream=True))
        assert (status, tier) == (200, "code-smart")
        assert "code-ultra failed before its first token" in reason


async def test_a_responses_stream_that_fails_before_its_first_token_moves_to_another_tier() -> None:
    async def fails(request: IncomingRequest) -> None:
        error = {"code": "529", "message": "Overloaded"}
        event = {"type": "response.failed", "response": {"status": "failed", "error": error}}
        await request.start_stream()
        await request.chunk(f"event: response.failed\ndata: {json.dumps(event)}\n\n".encode())
        await request.end_stream()

    body = {"model": "auto", "input": "hello", "stream": True}
    async with stack(fails) as (running, server):
        reply = await request(running, "POST", "/v1/responses", body)
        models = [json.loads(each.body)["model"] for each in server.requests]
    assert models[:2] == ["code-ultra", "code-smart"]
    assert (reply.status, reply.error["code"]) == (502, "stream_failed")
    assert reply.error["message"].endswith(": Overloaded")


async def test_a_tier_that_cannot_start_is_replaced() -> None:
    class Swapper(FakeSwapper):
        async def acquire(self, tier: str, session: str = "", **options: Any) -> Any:
            if tier == "code-ultra":
                raise TierUnavailableError("code-ultra cannot start: out of memory")
            return await super().acquire(tier, session, **options)

    async with stack(well_behaved, swapper=Swapper()) as (running, _):
        status, tier, reason = await tier_and_reason(running, chat_request())
        assert (status, tier) == (200, "code-smart")
        assert reason.endswith("code-ultra cannot start")


async def test_an_error_caused_by_the_request_is_passed_on() -> None:
    async with stack(by_model(code_ultra=failing("422 No"))) as (running, server):
        reply = await chat(running)
        assert (reply.status, reply.headers["x-llmstack-tier"]) == (422, "code-ultra")
        assert len(server.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_context_error_moves_the_request_to_a_larger_window_only(*, stream: bool) -> None:
    small, large = replace(SMART, ctx_size=16_000), replace(FAST, ctx_size=32_000)
    error = {"error": {"type": "exceed_context_size_error", "message": "exceeds the available context size"}}
    script = by_model(code_smart=failing("400 Bad", error))
    async with stack(script, Setup(config(small, large))) as (running, _):
        status, tier, reason = await tier_and_reason(running, chat_request(stream=stream))
        assert (status, tier) == (200, "code-fast")
        assert reason.endswith("code-smart cannot hold it")
    async with stack(by_model(code_fast=failing("400 Bad", error)), Setup(config(large))) as (running, _):
        reply = await chat(running, chat_request(stream=stream))
        assert (reply.status, reply.error["message"]) == (400, "exceeds the available context size")


async def test_a_named_tier_is_replaced_only_by_its_configured_fallback() -> None:
    alone = by_model(plan=failing("500 Oops"))
    async with stack(alone) as (running, server):
        assert (await chat(running, chat_request(model="plan"))).status == 500
        assert len(server.requests) == 1
    with_fallback = config(FAST, SMART, replace(PLAN, fallback=("code-smart",)))
    async with stack(alone, Setup(with_fallback)) as (running, _):
        expected = "named; code-smart serves: plan failed (500)"
        assert await tier_and_reason(running, chat_request(model="plan")) == (200, "code-smart", expected)


async def test_a_hosted_tier_never_stands_in_for_a_local_one() -> None:
    hosted = replace(ULTRA, backend=BackendKind.LITELLM, model=HostedModel("anthropic", "opus"))
    long = "word " * 12_000  # beyond the first ceiling: the agent serves it
    script = by_model(code_smart=failing("500 Oops"), code_fast=failing("500 Oops"))
    async with stack(script, Setup(config(hosted, SMART, FAST))) as (running, server):
        assert (await chat(running, chat_request(long))).status == 500
        assert "code-ultra" not in [json.loads(request.body)["model"] for request in server.requests]


async def test_a_tier_that_loads_too_long_is_replaced_by_a_loaded_one() -> None:
    class Slow(FakeSwapper):
        async def acquire(self, tier: str, session: str = "", **options: Any) -> Any:
            if tier == "code-ultra":
                await asyncio.Event().wait()
            return await super().acquire(tier, session, **options)

    swapper = Slow()
    swapper.loaded = ["code-smart"]
    setup = Setup(timeouts=WaitTimeouts(60, 60, load_s=0.05))
    async with stack(well_behaved, setup, swapper=swapper) as (running, _):
        status, tier, reason = await tier_and_reason(running, chat_request())
        assert (status, tier) == (200, "code-smart")
        assert reason.endswith("code-ultra is not up after 0.05 s")


async def test_with_while_loading_resident_a_loaded_tier_serves_meanwhile() -> None:
    swapper = FakeSwapper()
    swapper.loaded = ["code-fast"]
    setup = Setup(config(routing=Routing(while_loading="resident")))
    async with stack(well_behaved, setup, swapper=swapper) as (running, _):
        status, tier, reason = await tier_and_reason(running, chat_request())
        assert (status, tier) == (200, "code-fast")
        assert reason.endswith("code-fast serves: code-ultra is not loaded yet")
        await wait_until(lambda: "code-ultra" in swapper.loaded, "the chosen tier is loaded")
        assert (await tier_and_reason(running, chat_request()))[1] == "code-ultra"
        # A request for a named tier waits for it.
        assert (await tier_and_reason(running, chat_request(model="plan")))[1] == "plan"


def test_cooldowns_double_and_end_with_a_success() -> None:
    now = [100.0]
    cooldowns = Cooldowns(clock=lambda: now[0])
    for pause in (5, 10, 20, 40, 80, 160, 300, 300):
        cooldowns.note_failure("a", "failed (500)")
        assert cooldowns.cooling() == {"a": f"failed (500), tried again in {pause} s"}
        now[0] += pause
        assert cooldowns.cooling() == {}
    cooldowns.note_success("a")
    cooldowns.note_failure("a", "is rate-limited", 30)
    assert cooldowns.cooling() == {"a": "is rate-limited, tried again in 30 s"}


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ([("retry-after", "7")], 7.0),
        ([("retry-after", "1.5")], 1.5),
        ([("retry-after-ms", "250"), ("retry-after", "9")], 0.25),
        ([("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], 0.0),
        ([("retry-after", "soon")], None),
        ([("retry-after-ms", "x")], None),
        ([("retry-after-ms", "1e999")], None),
        ([("retry-after", "inf")], None),
        ([], None),
    ],
)
def test_the_requested_pause_is_read_from_the_headers(
    headers: list[tuple[str, str]], pause: float | None
) -> None:
    assert requested_pause(headers) == pause


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error":{"code":"context_length_exceeded"}}', "context"),
        (400, b'{"type":"error","error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}', "context"),
        (500, b"the request exceeds the available context size", "context"),
        (400, b"{}", None),
        (400, b'{"error":{"message":"Invalid schema for function get_billing_address"}}', None),
        (429, b'{"error":{"code":"billing_hard_limit_reached"}}', "refused"),
        (404, b"{}", None),
        (403, b"{}", "refused"),
        (429, b'{"error":{"code":"insufficient_quota"}}', "refused"),
        (429, b"{}", "limited"),
        (529, b'{"type":"error","error":{"type":"overloaded_error"}}', "broken"),
    ],
)
def test_errors_are_classified_by_what_they_say_about_the_tier(
    status: int, body: bytes, kind: str | None
) -> None:
    assert classify_error(status, body) == kind


async def test_metrics_count_requests_and_failovers() -> None:
    async with stack(by_model(plan=failing("500 Oops"))) as (running, _):
        await chat(running)
        await chat(running, chat_request(stream=True))
        await chat(running, chat_request(model="plan"))
        await chat(running, chat_request(model="nobody"))
        text = (await request(running, "GET", "/metrics")).body.decode()
    for line in (
        'llmstack_requests_total{outcome="ok",tier="code-ultra"} 2.0',
        'llmstack_requests_total{outcome="upstream_500",tier="plan"} 1.0',
        'llmstack_decisions_total{rule="short",tier="code-ultra"} 2.0',
        'llmstack_decisions_total{rule="named",tier="plan"} 1.0',
        'llmstack_tokens_total{kind="prompt",tier="code-ultra"} 6.0',
        'llmstack_tokens_total{kind="cached",tier="code-ultra"} 0.0',  # counted, and none were
        'llmstack_errors_total{code="upstream_500",origin="engine"} 1.0',
        'llmstack_errors_total{code="model_not_found",origin="router"} 1.0',
        'llmstack_first_byte_seconds_count{tier="code-ultra"} 2.0',
        "llmstack_in_flight 0.0",
        'llmstack_loads_total{tier="plan"} 0.0',
    ):
        assert line in text, text
    for never in ('kind="cached",tier="plan"', "llmstack_cost_usd_total{"):
        assert never not in text, text

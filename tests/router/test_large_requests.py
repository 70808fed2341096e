"""Requests of many megabytes: read in another process, so that no other client waits for them."""

from __future__ import annotations

import asyncio
import json
import operator
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from router.clients import chat, chat_request, request, well_behaved
from router.harness import RunningRouter, stack, wait_until
from router.remote_tiers import router_with_tiers, server_tier
from support.providers import provider

from llmstack.policy.facts import LONGEST_WRITTEN, without_harness
from llmstack.process import worker as worker_module
from llmstack.process.worker import Worker, WorkerFailedError
from llmstack.units import MB

if TYPE_CHECKING:
    from collections.abc import Awaitable

CHAT = "/v1/chat/completions"
TINY = b'{"role":"user","content":"a"}'


def many(count: int, message: bytes = TINY, model: bytes = b"auto") -> bytes:
    return b'{"messages":[' + b",".join([message] * count) + b'],"model":"' + model + b'"}'


async def longest_turn_s(work: Awaitable[Any]) -> float:
    """Return the longest CPU time that this process needs between two turns of its event loop."""
    task, longest_s, before = asyncio.ensure_future(work), 0.0, time.process_time()
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.process_time()
        longest_s, before = max(longest_s, now - before), now
    task.result()
    return longest_s


@pytest.mark.parametrize("message", [TINY, b"{}", b'{"role":"user","content":"' + b"<" * 4 * MB + b'"}'])
async def test_a_large_request_does_not_hold_up_the_others(
    message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "TIMEOUT_S", 60.0)
    body = many(max(1, 2 * MB // len(message)), message, b"agent")
    async with stack(well_behaved) as (running, server):

        async def send() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            assert b" 200 OK" in await reader.readline()
            await reader.read()
            writer.close()

        assert await longest_turn_s(send()) < 0.25
        assert server.requests[0].body.partition(b'"model":')[0] == body.partition(b'"model":')[0]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CHAT, chat_request("x" * 2 * MB, model="plan"), 200),
        (CHAT, chat_request("x" * 2 * MB, model="plan", id_slot=3), 200),
        (CHAT, {"messages": ["x" * 2 * MB]}, 400),
        ("/v1/messages", {"messages": ["x" * 2 * MB]}, 400),
        ("/upstream/plan/x", b"\xff" * 2 * MB, 200),
        ("/llmstack/route", {"body": chat_request("x" * 2 * MB)}, 413),
    ],
)
async def test_a_large_request_is_served_like_any_other(path: str, body: Any, status: int) -> None:
    async with stack(well_behaved) as (running, _):
        reply = await request(running, "POST", path, body)
        assert reply.status == status, reply.body
        if status == 400:
            assert "Expected `object`, got `str` - at `$.messages[0]`" in reply.error["message"]
        assert (await chat(running)).status == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
async def test_a_large_request_is_translated(path: str) -> None:
    with provider("anthropic") as fake:
        async with router_with_tiers(server_tier("far", "anthropic/claude-opus-4-6", fake.url)) as running:
            text = "x" * 2 * MB
            reply = await request(running, "POST", path, chat_request(text, model="far", input=text))
            assert reply.status == 200, reply.body
            assert json.dumps(fake.last).count("x" * 2 * MB) == 1
            too_large = chat_request("x" * 33 * MB, model="far", input="x")
            reply = await request(running, "POST", path, too_large)
            assert (reply.status, reply.error["code"]) == (413, "body_too_large")


async def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "TIMEOUT_S", 0.01)
    async with stack(well_behaved) as (running, _):
        reply = await chat(running, many(100_000))
        assert (reply.status, reply.error["code"]) == (400, "too_complex")
        monkeypatch.undo()
        assert (await chat(running, many(50_000))).status == 200


def workers(running: RunningRouter) -> list[psutil.Process]:
    del running
    return [each for each in psutil.Process().children() if "llmstack.process.worker" in each.cmdline()]


async def test_a_killed_worker_costs_one_request_and_a_client_that_leaves_none() -> None:
    async with stack(well_behaved) as (running, _):
        assert (await chat(running, many(50_000))).status == 200
        workers(running)[0].kill()
        sent = [await chat(running, many(50_000)) for _ in range(2)]
        assert sent[-1].status == 200
        left = asyncio.create_task(chat(running, many(200_000)))
        await wait_until(lambda: running.app.service.worker.is_busy, "the worker reads")
        left.cancel()
        assert (await chat(running, many(50_000))).status == 200
    assert not workers(running)


async def test_the_worker_has_a_limit_of_memory() -> None:
    worker = Worker(os.environ)
    assert await worker.run(len, b"abc") == 3
    with pytest.raises(WorkerFailedError):
        await worker.run(partial(operator.mul, worker_module.MAX_MEMORY_BYTES), b"ab")
    with pytest.raises(TypeError):
        await worker.run(ord, b"abc")
    await worker.close()


def test_of_a_text_that_nobody_wrote_start_and_end_are_read() -> None:
    text = "start " + "<" * MB + " end"
    words = without_harness(text)
    assert (len(words), words[:6], words[-4:]) == (LONGEST_WRITTEN, "start ", " end")

"""Clients that send or read slowly, and those that stop."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from router.clients import asking, event, well_behaved
from router.harness import Asked, FakeSwapper, Setup, config, router, stack, until
from router.wire import CHUNKED, HEALTH, QUICK, connected, head, whole

from llmstack.router.http.limits import HttpLimits

if TYPE_CHECKING:
    from router.harness import Running


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", None),
        (b"\r\n\r\n", None),
        (HEALTH, 200),
        (HEALTH[:-2], 408),
        (b"G", 408),
        (whole()[:-1], 408),
        (head("content-length: 9"), 408),
        (head(CHUNKED) + b"5\r\nhel", 408),
    ],
)
async def test_a_client_that_falls_silent(sent: bytes, answer: int | None) -> None:
    async with router(FakeSwapper(), Setup(limits=QUICK)) as running:
        async with connected(running) as wire:
            await wire.say(sent)
            if answer is not None:
                assert (await wire.answer()).status == answer
            assert await wire.rest() == b""
        await until(lambda: running.server.connections == 0, "the connection is gone")


async def test_a_body_in_drips_is_not_waited_for_however_long_it_goes_on() -> None:
    async with router(FakeSwapper(), Setup(limits=QUICK)) as running, connected(running) as wire:
        await wire.say(head("content-length: 1000000"))
        answering = asyncio.create_task(wire.answer())
        while not answering.done():
            await wire.say(b"x")
            await asyncio.sleep(0.005)
        assert answering.result().code == "request_timeout"


async def test_a_slow_body_in_pieces_is_taken() -> None:
    async with stack(well_behaved) as (running, behind), connected(running) as wire:
        body = json.dumps(asking("x" * 1_500_000, model="plan")).encode()
        sent = whole(body, "x-kept: 1")
        for at in range(0, len(sent), 70_001):
            await wire.say(sent[at : at + 70_001])
            await asyncio.sleep(0)
        assert (await wire.answer()).status == 200
        assert behind.requests[-1].body == body
        body = json.dumps(asking("x" * 300_000, model="plan")).encode()
        for part in (whole(body)[:30], whole(body)[30:200], whole(body)[200:290_000], whole(body)[290_000:]):
            await wire.say(part)
            await asyncio.sleep(0.01)
        assert (await wire.answer()).status == 200
        assert behind.requests[-1].body == body


async def test_a_client_that_reads_nothing_is_cut() -> None:
    async def flood(asked: Asked) -> None:
        await asked.start_stream()
        while not asked.writer.is_closing():
            await asked.chunk(event("x" * 65_536))

    setup = Setup(limits=HttpLimits(stalled_s=0.1, sweep_s=0.02))
    async with stack(flood) as (patient, _), stack(flood, setup) as (running, behind):
        assert patient.server.limits.stalled_s > 60
        async with connected(running) as wire:
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await wire.say(whole(json.dumps(asking(stream=True)).encode()))
            await until(lambda: running.server.connections == 1, "the client is there")
            await until(lambda: running.server.connections == 0, "the client is cut")
        await running.idle()
        await until(lambda: behind.open == 0, "the request at the server is cancelled")


LARGE = Setup(replace(config(), text="; a line of it\n" * 1_000_000), limits=QUICK)  # no socket holds that
MODELS_INI = head(method="GET", path="/models.ini")


async def every_limit_has_passed(running: Running) -> None:
    async with connected(running) as silent:
        assert await silent.rest() == b""


@pytest.mark.parametrize(
    ("more", "answers"),
    [
        (b"", [b"200"]),
        (b"G", [b"200", b"408"]),
        (b"rubbish\r\n\r\n", [b"200", b"400"]),
        (HEALTH, [b"200", b"200"]),
    ],
)
async def test_a_client_that_reads_late_is_served_like_any_other(more: bytes, answers: list[bytes]) -> None:
    """What waits behind a long answer is judged once that is read: the next request, or the end."""
    async with router(FakeSwapper(), LARGE) as running, connected(running) as wire:
        await wire.say(MODELS_INI + more)
        await every_limit_has_passed(running)
        assert re.findall(rb"HTTP/1.1 (\d+)", await wire.rest()) == answers


async def test_a_request_is_not_late_where_it_waits_for_its_client() -> None:
    async with router(FakeSwapper(), LARGE) as running, connected(running) as wire:
        await wire.say(MODELS_INI)
        await every_limit_has_passed(running)
        await wire.say(HEALTH + HEALTH[:-2])
        await every_limit_has_passed(running)
        assert re.findall(rb"HTTP/1.1 (\d+)", await wire.rest()) == [b"200", b"200", b"408"]

"""Clients that send or read slowly, or stop."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from router.clients import chat_request, event, well_behaved
from router.harness import FakeSwapper, IncomingRequest, Setup, config, router, stack, wait_until
from router.raw_http import CHUNKED, HEALTH, SHORT_LIMITS, connect, request_head, whole_request

from llmstack.router.http.limits import HttpLimits

if TYPE_CHECKING:
    from router.harness import RunningRouter


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", None),
        (b"\r\n\r\n", None),
        (HEALTH, 200),
        (HEALTH[:-2], 408),
        (b"G", 408),
        (whole_request()[:-1], 408),
        (request_head("content-length: 9"), 408),
        (request_head(CHUNKED) + b"5\r\nhel", 408),
    ],
)
async def test_a_silent_client_is_disconnected_after_its_timeout(data: bytes, status: int | None) -> None:
    async with router(FakeSwapper(), Setup(limits=SHORT_LIMITS)) as running:
        async with connect(running) as connection:
            await connection.send(data)
            if status is not None:
                assert (await connection.read_response()).status == status
            assert await connection.read_to_end() == b""
        await wait_until(lambda: running.server.connections == 0, "the connection is closed")


async def test_a_body_that_arrives_too_slowly_is_a_timeout() -> None:
    async with router(FakeSwapper(), Setup(limits=SHORT_LIMITS)) as running, connect(running) as connection:
        await connection.send(request_head("content-length: 1000000"))
        answering = asyncio.create_task(connection.read_response())
        while not answering.done():
            await connection.send(b"x")
            await asyncio.sleep(0.005)
        assert answering.result().code == "request_timeout"


async def test_a_large_body_in_pieces_is_accepted() -> None:
    async with stack(well_behaved) as (running, server), connect(running) as connection:
        body = json.dumps(chat_request("x" * 1_500_000, model="plan")).encode()
        data = whole_request(body, "x-kept: 1")
        for at in range(0, len(data), 70_001):
            await connection.send(data[at : at + 70_001])
            await asyncio.sleep(0)
        assert (await connection.read_response()).status == 200
        assert server.requests[-1].body == body
        body = json.dumps(chat_request("x" * 300_000, model="plan")).encode()
        for part in (
            whole_request(body)[:30],
            whole_request(body)[30:200],
            whole_request(body)[200:290_000],
            whole_request(body)[290_000:],
        ):
            await connection.send(part)
            await asyncio.sleep(0.01)
        assert (await connection.read_response()).status == 200
        assert server.requests[-1].body == body


async def test_a_client_that_reads_nothing_is_disconnected() -> None:
    async def flood(request: IncomingRequest) -> None:
        await request.start_stream()
        while not request.writer.is_closing():
            await request.chunk(event("x" * 65_536))

    setup = Setup(limits=HttpLimits(stalled_s=0.1, sweep_s=0.02))
    async with stack(flood) as (patient, _), stack(flood, setup) as (running, server):
        assert patient.server.limits.stalled_s > 60
        async with connect(running) as connection:
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await connection.send(whole_request(json.dumps(chat_request(stream=True)).encode()))
            await wait_until(lambda: running.server.connections == 1, "the client is connected")
            await wait_until(lambda: running.server.connections == 0, "the client is disconnected")
        await running.wait_until_idle()
        await wait_until(lambda: server.open == 0, "the request at the server is cancelled")


LARGE = Setup(
    replace(config(), text="; a line of it\n" * 1_000_000), limits=SHORT_LIMITS
)  # more than a socket buffers
MODELS_INI = request_head(method="GET", path="/models.ini")


async def every_limit_has_passed(running: RunningRouter) -> None:
    async with connect(running) as silent:
        assert await silent.read_to_end() == b""


@pytest.mark.parametrize(
    ("more", "answers"),
    [
        (b"", [b"200"]),
        (b"G", [b"200", b"408"]),
        (b"rubbish\r\n\r\n", [b"200", b"400"]),
        (HEALTH, [b"200", b"200"]),
    ],
)
async def test_a_client_that_reads_late_still_gets_every_response(more: bytes, answers: list[bytes]) -> None:
    """What follows is handled once the long response is read: the next request, or the end."""
    async with router(FakeSwapper(), LARGE) as running, connect(running) as connection:
        await connection.send(MODELS_INI + more)
        await every_limit_has_passed(running)
        assert re.findall(rb"HTTP/1.1 (\d+)", await connection.read_to_end()) == answers


async def test_time_spent_waiting_for_the_client_to_read_does_not_count_as_a_timeout() -> None:
    async with router(FakeSwapper(), LARGE) as running, connect(running) as connection:
        await connection.send(MODELS_INI)
        await every_limit_has_passed(running)
        await connection.send(HEALTH + HEALTH[:-2])
        await every_limit_has_passed(running)
        assert re.findall(rb"HTTP/1.1 (\d+)", await connection.read_to_end()) == [b"200", b"200", b"408"]

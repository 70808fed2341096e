"""Requests that the HTTP server refuses, and its responses to them."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest
from router.broken_requests import broken_request, send_and_read_statuses
from router.clients import well_behaved
from router.harness import FakeSwapper, Setup, router, stack, wait_until
from router.raw_http import CHUNKED, HEALTH, connect, request_head, whole_request

from llmstack.router.http.limits import HttpLimits


@pytest.mark.parametrize("pieces", [1, 7, 1000])
async def test_a_bad_request_in_pieces_is_refused(pieces: int) -> None:
    sent = request_head("x: " + "y" * 70_000)
    async with router(FakeSwapper()) as running, connect(running) as connection:
        for at in range(0, len(sent), len(sent) // pieces + 1):
            await connection.send(sent[at : at + len(sent) // pieces + 1])
        assert (await connection.read_response()).status == 431


async def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    setup = Setup(limits=HttpLimits(body=1000))
    async with router(FakeSwapper(), setup) as running:
        for sent in (request_head("content-length: 1001"), request_head(CHUNKED) + b"3e9\r\n" + b"x" * 1001):
            async with connect(running) as connection:
                await connection.send(sent)
                response = await connection.read_response()
                assert (response.status, response.code, response.headers["connection"]) == (
                    413,
                    "body_too_large",
                    "close",
                )
        async with connect(running) as connection:
            await connection.send(whole_request(b"x" * 1000))
            assert (await connection.read_response()).status == 400  # not JSON, but read


async def test_a_connection_over_the_limit_is_refused() -> None:
    setup = Setup(limits=HttpLimits(connections=2))
    async with router(FakeSwapper(), setup) as running:
        async with connect(running) as one, connect(running) as two:
            for connection in (one, two):
                await connection.send(HEALTH)
                assert (await connection.read_response()).status == 200
            async with connect(running) as three:
                response = await three.read_response()
                assert (response.status, response.code, response.headers["retry-after"]) == (
                    503,
                    "too_many_connections",
                    "1",
                )
        await wait_until(lambda: running.server.connections == 0, "all are closed")
        async with connect(running) as connection:
            await connection.send(HEALTH)
            assert (await connection.read_response()).status == 200


async def test_broken_requests_never_cause_a_server_error(caplog: pytest.LogCaptureFixture) -> None:
    """A sample; tests/benchmarks/fuzz_http.py sends a hundred thousand."""
    rng = random.Random(20)  # noqa: S311 - no secret
    setup = Setup(limits=HttpLimits(linger_s=1, head_s=1, body_s=1, sweep_s=0.1))
    async with stack(well_behaved, setup) as (running, _):
        for _ in range(25):
            sent = [broken_request(rng) for _ in range(20)]
            responses = await asyncio.gather(
                *(send_and_read_statuses(running.port, data, rng) for data in sent)
            )
            for data, codes in zip(sent, responses, strict=True):
                assert all(code < 500 for code in codes), data
        await wait_until(lambda: running.server.connections == 0, "every connection is closed")
        await running.wait_until_idle()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []

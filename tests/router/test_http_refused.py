"""Requests that the HTTP server refuses, and its responses to them."""

from __future__ import annotations

import asyncio
import logging
import random
import re

import pytest
from router.broken_requests import broken_request, send_and_read_statuses
from router.clients import well_behaved
from router.harness import FakeSwapper, Setup, router, stack, wait_until
from router.raw_http import CHAT, CHUNKED, HEALTH, chunked_body, connect, request_head, whole_request

from llmstack.router.http.limits import HttpLimits


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request_head(f"content-length: {len(CHAT)}", CHUNKED) + CHAT, 400),
        (request_head(CHUNKED, "content-length: 0") + chunked_body(CHAT, 5), 400),
        (request_head("content-length: 5", "content-length: 6") + b"hello!", 400),
        (request_head("content-length: -1"), 400),
        (request_head("content-length: 1 2") + b"x", 400),
        (request_head("content-length: 99999999999999999999"), 400),
        (request_head("transfer-encoding: gzip") + CHAT, 400),
        (request_head("transfer-encoding: chunked, gzip") + CHAT, 400),
        (request_head(CHUNKED) + b"zz\r\nhello\r\n", 400),
        (request_head(CHUNKED) + b"5\r\nhelloXX0\r\n\r\n", 400),
        (request_head(CHUNKED) + b"fffffffffffffffff\r\n", 400),
        (request_head(CHUNKED) + b"-5\r\nhello\r\n", 400),
        (b"POST /x HTTP/1.1\nhost: localhost\n\n", 400),
        (b"GET /health HTTP/1.1\r\nhost: localhost\nx: y\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: a\r\n b\r\n\r\n", 400),
        (request_head("x: a\0b"), 400),
        (request_head("x\0y: a"), 400),
        (request_head("bad name: a"), 400),
        (request_head("name : a"), 400),
        (request_head(": a"), 400),
        (request_head("no colon"), 400),
        (request_head("host: other"), 400),
        (request_head(path="/caf\xe9"), 400),
        (request_head(path="/a b"), 400),
        (b"GET\r\n\r\n", 400),
        (b"NONSENSE / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/3.7\r\n\r\n", 400),
        (b"GET /health\r\nhost: localhost\r\n\r\n", 400),
        (b"GET /health HTTP/2.0\r\nhost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT example.org:443 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (request_head(path="/" + "x" * 20_000), 414),
        (b"GET /" + b"x" * 200_000, 414),
        (request_head(*(f"x-{number}: y" for number in range(200))), 431),
        (request_head("x: " + "y" * 70_000), 431),
        (request_head()[:-2] + b"x: " + b"y" * 400_000, 431),
        (request_head(CHUNKED) + b"5;" + b"x" * 600_000, 400),
        (request_head(CHUNKED) + b"0\r\n" + b"x: y\r\n" * 100_000, 400),
    ],
)
async def test_an_invalid_request_is_refused_and_the_connection_closed(
    sent: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with stack(well_behaved) as (running, server):
        async with connect(running) as connection:
            await connection.send(sent)
            response = await connection.read_response()
            assert response.status == status, response
            assert response.headers["connection"] == "close"
            assert (
                response.code == {400: "invalid_http", 414: "uri_too_long", 431: "headers_too_large"}[status]
            )
            assert await connection.read_to_end() == b""
        await wait_until(lambda: running.server.connections == 0, "the connection is closed")
        assert server.requests == []
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (f"{len(CHAT)}", [200, 200]),
        (f"{len(CHAT):019}", [200, 200]),
        (f"{len(CHAT)}\t ", [200, 200]),
        ("9" * 19, [413]),
        ("0", [400, 400]),
        (f"{len(CHAT):020}", [400]),
        ("18446744073709551616", [400]),
        (f"+{len(CHAT)}", [400]),
        (f"{len(CHAT)}\xb2", [400]),
        (f"{len(CHAT)},{len(CHAT)}", [400]),
        (f"{len(CHAT)}\n", [400]),
        (f"{len(CHAT)}\r\n 1", [400]),
        (f"{len(CHAT)}\r\ncontent-length: 1", [400]),
        (f"{len(CHAT)}\r\n{CHUNKED}", [400]),
        ("", [400]),
    ],
)
async def test_a_cached_request_head_is_parsed_like_a_new_one(length: str, expected: list[int]) -> None:
    sent = (
        request_head(f"content-length: {length}")
        + CHAT
        + request_head("connection: close", method="GET", path="/health")
    )
    async with stack(well_behaved) as (running, _):
        for is_cached in (False, True):
            async with connect(running) as connection:
                await connection.send(sent)
                statuses = re.findall(rb"HTTP/1.1 (\d+)", await connection.read_to_end())
                assert [int(status) for status in statuses] == expected, is_cached
            async with connect(running) as connection:
                await connection.send(whole_request())
                assert (await connection.read_response()).status == 200


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

"""What the HTTP layer refuses of clients, and how it says so."""

from __future__ import annotations

import asyncio
import logging
import random
import re

import pytest
from router.clients import well_behaved
from router.harness import FakeSwapper, Setup, router, stack, until
from router.mutations import mutated, statuses
from router.wire import CHAT, CHUNKED, HEALTH, connected, head, in_chunks, whole

from llmstack.router.http.limits import HttpLimits


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(f"content-length: {len(CHAT)}", CHUNKED) + CHAT, 400),
        (head(CHUNKED, "content-length: 0") + in_chunks(CHAT, 5), 400),
        (head("content-length: 5", "content-length: 6") + b"hello!", 400),
        (head("content-length: -1"), 400),
        (head("content-length: 1 2") + b"x", 400),
        (head("content-length: 99999999999999999999"), 400),
        (head("transfer-encoding: gzip") + CHAT, 400),
        (head("transfer-encoding: chunked, gzip") + CHAT, 400),
        (head(CHUNKED) + b"zz\r\nhello\r\n", 400),
        (head(CHUNKED) + b"5\r\nhelloXX0\r\n\r\n", 400),
        (head(CHUNKED) + b"fffffffffffffffff\r\n", 400),
        (head(CHUNKED) + b"-5\r\nhello\r\n", 400),
        (b"POST /x HTTP/1.1\nhost: localhost\n\n", 400),
        (b"GET /health HTTP/1.1\r\nhost: localhost\nx: y\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: a\r\n b\r\n\r\n", 400),
        (head("x: a\0b"), 400),
        (head("x\0y: a"), 400),
        (head("bad name: a"), 400),
        (head("name : a"), 400),
        (head(": a"), 400),
        (head("no colon"), 400),
        (head("host: other"), 400),
        (head(path="/caf\xe9"), 400),
        (head(path="/a b"), 400),
        (b"GET\r\n\r\n", 400),
        (b"NONSENSE / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/3.7\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT example.org:443 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (head(path="/" + "x" * 20_000), 414),
        (b"GET /" + b"x" * 200_000, 414),
        (head(*(f"x-{number}: y" for number in range(200))), 431),
        (head("x: " + "y" * 70_000), 431),
        (head()[:-2] + b"x: " + b"y" * 400_000, 431),
        (head(CHUNKED) + b"5;" + b"x" * 600_000, 400),
        (head(CHUNKED) + b"0\r\n" + b"x: y\r\n" * 100_000, 400),
    ],
)
async def test_what_is_no_request(sent: bytes, status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with stack(well_behaved) as (running, behind):
        async with connected(running) as wire:
            await wire.say(sent)
            got = await wire.answer()
            assert got.status == status, got
            assert got.headers["connection"] == "close"
            assert got.code == {400: "invalid_http", 414: "uri_too_long", 431: "headers_too_large"}[status]
            assert await wire.rest() == b""
        await until(lambda: running.server.connections == 0, "the connection is gone")
        assert behind.requests == []
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(
    ("length", "answers"),
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
async def test_a_head_that_came_before_means_what_it_meant(length: str, answers: list[int]) -> None:
    sent = head(f"content-length: {length}") + CHAT + head("connection: close", method="GET", path="/health")
    async with stack(well_behaved) as (running, _):
        for known in (False, True):
            async with connected(running) as wire:
                await wire.say(sent)
                got = re.findall(rb"HTTP/1.1 (\d+)", await wire.rest())
                assert [int(status) for status in got] == answers, known
            async with connected(running) as wire:
                await wire.say(whole())
                assert (await wire.answer()).status == 200


@pytest.mark.parametrize("pieces", [1, 7, 1000])
async def test_a_bad_request_in_pieces(pieces: int) -> None:
    sent = head("x: " + "y" * 70_000)
    async with router(FakeSwapper()) as running, connected(running) as wire:
        for at in range(0, len(sent), len(sent) // pieces + 1):
            await wire.say(sent[at : at + len(sent) // pieces + 1])
        assert (await wire.answer()).status == 431


async def test_a_body_over_the_limit_is_answered_before_it_has_come() -> None:
    setup = Setup(limits=HttpLimits(body=1000))
    async with router(FakeSwapper(), setup) as running:
        for sent in (head("content-length: 1001"), head(CHUNKED) + b"3e9\r\n" + b"x" * 1001):
            async with connected(running) as wire:
                await wire.say(sent)
                got = await wire.answer()
                assert (got.status, got.code, got.headers["connection"]) == (413, "body_too_large", "close")
        async with connected(running) as wire:
            await wire.say(whole(b"x" * 1000))
            assert (await wire.answer()).status == 400  # not JSON, but read


async def test_one_connection_too_many() -> None:
    setup = Setup(limits=HttpLimits(connections=2))
    async with router(FakeSwapper(), setup) as running:
        async with connected(running) as one, connected(running) as two:
            for wire in (one, two):
                await wire.say(HEALTH)
                assert (await wire.answer()).status == 200
            async with connected(running) as three:
                got = await three.answer()
                assert (got.status, got.code, got.headers["retry-after"]) == (
                    503,
                    "too_many_connections",
                    "1",
                )
        await until(lambda: running.server.connections == 0, "all are gone")
        async with connected(running) as wire:
            await wire.say(HEALTH)
            assert (await wire.answer()).status == 200


async def test_a_sample_of_broken_requests(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred thousand of them: tests/benchmarks/fuzz_http.py."""
    chance = random.Random(20)  # noqa: S311 - no secret
    setup = Setup(limits=HttpLimits(linger_s=1, head_s=1, body_s=1, sweep_s=0.1))
    async with stack(well_behaved, setup) as (running, _):
        for _ in range(25):
            sent = [mutated(chance) for _ in range(20)]
            found = await asyncio.gather(*(statuses(running.port, data, chance) for data in sent))
            for data, answers in zip(sent, found, strict=True):
                assert all(status < 500 for status in answers), data
        await until(lambda: running.server.connections == 0, "every connection is gone")
        await running.idle()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []

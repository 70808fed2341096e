"""The HTTP layer towards clients: what it takes, what it refuses, and that nothing of a client is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import random
import re
import socket
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from router.clients import asking, event, well_behaved
from router.harness import Asked, FakeSwapper, Setup, config, router, stack, until
from router.mutations import mutated, statuses
from router.wire import CHAT, connected, head, whole

from llmstack.router.exchange import Exchange
from llmstack.router.http.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.harness import Running

HEALTH = head(method="GET", path="/health")
CHUNKED = "transfer-encoding: chunked"
QUICK = Limits(head_s=0.05, body_s=0.05, body_rate=1e9, idle_s=0.05, linger_s=0.5, sweep_s=0.02)


def in_chunks(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


# What is refused


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
        (f"{len(CHAT)}\t ", [400]),
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
    setup = Setup(limits=Limits(body=1000))
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
    setup = Setup(limits=Limits(connections=2))
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


# Clients that are slow


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

    setup = Setup(limits=Limits(stalled_s=0.1, sweep_s=0.02))
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


# What is understood


async def test_one_connection_serves_many_requests() -> None:
    async with stack(well_behaved) as (running, behind):
        async with connected(running) as wire:
            for _ in range(3):
                await wire.say(whole())
                assert (await wire.answer()).status == 200
                await wire.say(head(CHUNKED) + in_chunks(CHAT, 3))
                assert (await wire.answer()).status == 200
                await wire.say(whole(json.dumps(asking(stream=True)).encode()))
                assert (await wire.answer()).body.endswith(b"[DONE]\n\n")
            assert running.server.connections == 1
        assert [asked.body for asked in behind.requests][:2] == [CHAT, CHAT]
        assert behind.connections == 1


@pytest.mark.parametrize("pieces", [1, 3, 400])
async def test_pipelined_requests_are_answered_in_their_order(pieces: int) -> None:
    async with stack(well_behaved) as (running, _), connected(running) as wire:
        sent = (whole() + HEALTH + head(CHUNKED) + in_chunks(CHAT, 9) + b"\r\n" + HEALTH) * 5
        for at in range(0, len(sent), len(sent) // pieces + 1):
            await wire.say(sent[at : at + len(sent) // pieces + 1])
        for _ in range(5):
            tiers = [(await wire.answer()).headers.get("x-llmstack-tier") for _ in range(4)]
            assert tiers == ["plan", None, "plan", None]
        await wire.say(head("connection: close", method="GET", path="/health"))
        assert (await wire.answer()).headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_whoever_pipelines_does_not_hold_up_the_others() -> None:
    async with router(FakeSwapper()) as running, connected(running) as wire:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await wire.say(HEALTH * 100)
        for _ in range(100):
            assert (await wire.answer()).status == 200
        counting.cancel()
        assert turns > 100


async def test_what_follows_a_request_may_be_rubbish() -> None:
    async with stack(well_behaved) as (running, _), connected(running) as wire:
        await wire.say(whole() + HEALTH + b"rubbish\r\n\r\n")
        assert [(await wire.answer()).status for _ in range(3)] == [200, 200, 400]
        assert await wire.rest() == b""


@pytest.mark.parametrize("answered", [False, True])
async def test_a_head_behind_a_request_ends_too(*, answered: bool) -> None:
    """It is bounded while the request before it is answered, and has its time once that is."""
    async with router(FakeSwapper(), Setup(limits=QUICK)) as running, connected(running) as wire:
        running.swapper.ready.clear()
        await wire.say(whole(json.dumps(asking("hello")).encode()) + b"GET / HTTP/1.1\r\nhost: x\r\nx: ")
        await until(lambda: running.swapper.waiting == 1, "the first one waits")
        if not answered:
            for _ in range(10):
                await wire.say(b"y" * 10_000)
        running.swapper.ready.set()
        assert (await wire.answer()).status == 502  # nothing listens there
        assert (await wire.answer()).status == (408 if answered else 431)
        assert await wire.rest() == b""


async def test_expect_100_continue() -> None:
    async with stack(well_behaved) as (running, behind), connected(running) as wire:
        await wire.say(head("expect: 100-continue", f"content-length: {len(CHAT)}"))
        assert (await wire.answer(bodiless=True)).status == 100
        assert behind.requests == []
        await wire.say(CHAT)
        assert (await wire.answer()).status == 200
        await wire.say(head("expect: 100-continue", "content-length: 99999999999"))
        assert (await wire.answer()).status == 413, "it is not asked for what will not be taken"


@pytest.mark.parametrize("stream", [False, True])
async def test_http_1_0(*, stream: bool) -> None:
    body = json.dumps(asking(stream=stream)).encode()
    async with stack(well_behaved) as (running, _):
        async with connected(running) as wire:
            await wire.say(whole(body, version="1.0"))
            got = await wire.answer()
            assert got.status == 200
            assert "transfer-encoding" not in got.headers
            assert got.headers["connection"] == "close"
            assert got.body.endswith(b"[DONE]\n\n" if stream else b"}")
            assert await wire.rest() == b""
        async with connected(running) as wire:
            for _ in range(2):
                await wire.say(whole(body, "connection: keep-alive", version="1.0"))
                got = await wire.answer()
                assert got.headers["connection"] == ("close" if stream else "keep-alive")
                if stream:
                    break


async def test_head_has_no_body() -> None:
    async with stack(well_behaved) as (running, behind), connected(running) as wire:
        for path in ("/", "/upstream/plan/health", "/v1/chat/completions"):
            await wire.say(head(method="HEAD", path=path))
            await wire.answer(bodiless=True)
        await wire.say(HEALTH)
        assert (await wire.answer()).body == b'{"status":"ok"}'
        assert [asked.line for asked in behind.requests] == ["HEAD /health HTTP/1.1"]


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
async def test_an_upgrade_is_ignored(upgrade: str) -> None:
    lines = (f"upgrade: {upgrade}", "connection: upgrade", "http2-settings: AAMAAABkAAQ")
    async with stack(well_behaved) as (running, behind), connected(running) as wire:
        await wire.say(head(*lines, method="GET", path="/health") + HEALTH)
        assert [(await wire.answer()).status for _ in range(2)] == [200, 200]
        sent = whole(CHAT, *lines) + HEALTH
        for cut in (0, sent.index(CHAT), sent.index(CHAT) + 5, len(sent) - 5):
            await wire.say(sent[:cut])
            await asyncio.sleep(0.01)
            await wire.say(sent[cut:])
            assert [(await wire.answer()).status for _ in range(2)] == [200, 200]
            assert behind.requests[-1].body == CHAT
        assert "upgrade" not in behind.requests[0].headers
        await wire.say(head(*lines, CHUNKED) + in_chunks(CHAT, 9))
        assert (await wire.answer()).status == 400


async def test_an_absolute_target() -> None:
    async with router(FakeSwapper()) as running, connected(running) as wire:
        await wire.say(head(method="GET", path="http://localhost:1/health?x#y"))
        assert (await wire.answer()).status == 200


async def test_a_client_that_only_stops_sending_still_gets_what_costs_nothing() -> None:
    async with router(FakeSwapper()) as running, connected(running) as wire:
        await wire.say(HEALTH + HEALTH)
        wire.writer.write_eof()
        assert (await wire.rest()).count(b"HTTP/1.1 200 OK") == 2


# What a client leaves behind


async def leave_at_once(port: int, sent: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.write(sent)
    await asyncio.sleep(0)
    writer.transport.abort()


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def exchanges() -> list[Exchange]:
    return [found for found in gc.get_objects() if isinstance(found, Exchange)]


async def test_a_request_that_was_answered_is_not_left_to_the_garbage_collector() -> None:
    async with stack(well_behaved) as (running, _), connected(running) as wire:
        with without_collector():
            for _ in range(5):
                await wire.say(whole())
                assert (await wire.answer()).status == 200
            await running.idle()
            assert len(exchanges()) <= 1  # the last one, until the next comes


async def test_a_request_whose_client_left_is_not_left_to_the_garbage_collector() -> None:
    async with stack(Asked.until_hung_up) as (running, behind):
        with without_collector():
            for _ in range(5):
                behind.requests.clear()
                async with connected(running) as wire:
                    await wire.say(whole())
                    await until(lambda: bool(behind.requests), "it is being answered")
            await until(lambda: running.server.connections == 0, "the connections are gone")
            await running.idle()
            assert exchanges() == []


async def test_clients_that_reset_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    streaming = whole(json.dumps(asking(stream=True)).encode())
    async with stack(well_behaved) as (running, behind):
        for sent in (
            b"",
            HEALTH,
            HEALTH[:9],
            whole(),
            whole()[:-3],
            streaming,
            whole() + whole(),
            b"\0" * 99,
        ):
            await asyncio.gather(*(leave_at_once(running.port, sent) for _ in range(10)))
        await until(lambda: running.server.connections == 0, "every connection is gone")
        await running.idle()
        await running.app.service.upstream.close()
        await until(lambda: behind.open == 0, "no connection to the server is left")
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


# The end


async def test_what_waits_for_a_request_is_closed_and_what_runs_is_finished() -> None:
    go_on = asyncio.Event()

    async def slow(asked: Asked) -> None:
        await go_on.wait()
        await well_behaved(asked)

    async with stack(slow) as (running, behind), connected(running) as idle, connected(running) as busy:
        await idle.say(HEALTH)
        assert (await idle.answer()).status == 200
        await busy.say(whole() + HEALTH)
        await until(lambda: len(behind.requests) == 1, "a request runs")
        running.server.stop()
        assert await idle.rest() == b""
        go_on.set()
        first, last = await busy.answer(), await busy.answer()  # the first is not yet the connection's last
        assert (first.status, first.headers.get("connection")) == (200, None)
        assert (last.status, last.headers["connection"]) == (200, "close")
        assert await busy.rest() == b""


async def test_what_comes_after_the_last_answer_has_begun_is_not_answered() -> None:
    begin, end = asyncio.Event(), asyncio.Event()

    async def slow(asked: Asked) -> None:
        await begin.wait()
        await asked.start_stream()
        await asked.chunk(event("hi"))
        await end.wait()
        await asked.chunk(event("", finish="stop"))
        await asked.end_stream()

    async with stack(slow) as (running, behind), connected(running) as wire:
        await wire.say(whole(json.dumps(asking(stream=True)).encode()))
        await until(lambda: len(behind.requests) == 1, "a request runs")
        running.server.stop()
        begin.set()
        got = await wire.reader.readuntil(b"hi")
        assert b"connection: close" in got
        await wire.say(HEALTH)
        end.set()
        assert b"HTTP/1.1" not in await wire.rest()


async def test_the_end_is_bounded() -> None:
    async def never(asked: Asked) -> None:
        await asked.until_hung_up()

    setup = Setup(limits=Limits(drain_s=0.05, cut_s=0.05))
    async with stack(never, setup) as (running, _), connected(running) as wire, connected(running) as half:
        await half.say(HEALTH[:-2])
        await wire.say(whole())
        await until(lambda: running.swapper.held == 1, "a request runs")
        running.server.stop()
        assert (await wire.answer()).code == "router_stopping"
        await until(lambda: running.server.connections == 0, "everything has ended", 2.0)


async def test_a_sample_of_broken_requests(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred thousand of them: tests/benchmarks/fuzz_http.py."""
    chance = random.Random(20)  # noqa: S311 - no secret
    setup = Setup(limits=Limits(linger_s=1, head_s=1, body_s=1, sweep_s=0.1))
    async with stack(well_behaved, setup) as (running, _):
        for _ in range(25):
            sent = [mutated(chance) for _ in range(20)]
            found = await asyncio.gather(*(statuses(running.port, data, chance) for data in sent))
            for data, answers in zip(sent, found, strict=True):
                assert all(status < 500 for status in answers), data
        await until(lambda: running.server.connections == 0, "every connection is gone")
        await running.idle()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []

"""The HTTP layer towards clients: what it understands, how it ends, and that nothing of a client is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from router.clients import asking, event, well_behaved
from router.harness import Asked, FakeSwapper, Setup, router, stack, until
from router.wire import CHAT, CHUNKED, HEALTH, QUICK, connected, head, in_chunks, whole

from llmstack.router.http.exchange import Exchange
from llmstack.router.http.limits import HttpLimits

if TYPE_CHECKING:
    from collections.abc import Iterator


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

    setup = Setup(limits=HttpLimits(drain_s=0.05, cut_s=0.05))
    async with stack(never, setup) as (running, _), connected(running) as wire, connected(running) as half:
        await half.say(HEALTH[:-2])
        await wire.say(whole())
        await until(lambda: running.swapper.held == 1, "a request runs")
        running.server.stop()
        assert (await wire.answer()).code == "router_stopping"
        await until(lambda: running.server.connections == 0, "everything has ended", 2.0)

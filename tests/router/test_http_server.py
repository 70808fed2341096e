"""The HTTP server: what it accepts, how it stops, and that clients leave no resources behind."""

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
from router.clients import chat_request, event, well_behaved
from router.harness import FakeSwapper, IncomingRequest, Setup, router, stack, wait_until
from router.raw_http import (
    CHAT,
    CHUNKED,
    HEALTH,
    SHORT_LIMITS,
    chunked_body,
    connect,
    request_head,
    whole_request,
)

from llmstack.router.http.exchange import Exchange
from llmstack.router.http.limits import HttpLimits

if TYPE_CHECKING:
    from collections.abc import Iterator


async def test_one_connection_serves_many_requests() -> None:
    async with stack(well_behaved) as (running, server):
        async with connect(running) as connection:
            for _ in range(3):
                await connection.send(whole_request())
                assert (await connection.read_response()).status == 200
                await connection.send(request_head(CHUNKED) + chunked_body(CHAT, 3))
                assert (await connection.read_response()).status == 200
                await connection.send(whole_request(json.dumps(chat_request(stream=True)).encode()))
                assert (await connection.read_response()).body.endswith(b"[DONE]\n\n")
            assert running.server.connections == 1
        assert [request.body for request in server.requests][:2] == [CHAT, CHAT]
        assert server.connections == 1


@pytest.mark.parametrize("pieces", [1, 3, 400])
async def test_pipelined_requests_are_answered_in_order(pieces: int) -> None:
    async with stack(well_behaved) as (running, _), connect(running) as connection:
        data = (
            whole_request() + HEALTH + request_head(CHUNKED) + chunked_body(CHAT, 9) + b"\r\n" + HEALTH
        ) * 5
        for at in range(0, len(data), len(data) // pieces + 1):
            await connection.send(data[at : at + len(data) // pieces + 1])
        for _ in range(5):
            tiers = [(await connection.read_response()).headers.get("x-llmstack-tier") for _ in range(4)]
            assert tiers == ["plan", None, "plan", None]
        await connection.send(request_head("connection: close", method="GET", path="/health"))
        assert (await connection.read_response()).headers["connection"] == "close"
        assert await connection.read_to_end() == b""


async def test_a_client_that_pipelines_does_not_block_the_event_loop() -> None:
    async with router(FakeSwapper()) as running, connect(running) as connection:
        iterations = 0

        async def count() -> None:
            nonlocal iterations
            while True:
                iterations += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await connection.send(HEALTH * 100)
        for _ in range(100):
            assert (await connection.read_response()).status == 200
        counting.cancel()
        assert iterations > 100


async def test_garbage_after_a_valid_request_gets_a_400() -> None:
    async with stack(well_behaved) as (running, _), connect(running) as connection:
        await connection.send(whole_request() + HEALTH + b"rubbish\r\n\r\n")
        assert [(await connection.read_response()).status for _ in range(3)] == [200, 200, 400]
        assert await connection.read_to_end() == b""


@pytest.mark.parametrize("complete", [False, True])
async def test_an_incomplete_pipelined_head_is_limited_in_size_and_time(*, complete: bool) -> None:
    """Its size is limited while the request before it runs, and its time once that is answered."""
    async with router(FakeSwapper(), Setup(limits=SHORT_LIMITS)) as running, connect(running) as connection:
        running.swapper.ready.clear()
        await connection.send(
            whole_request(json.dumps(chat_request("hello")).encode()) + b"GET / HTTP/1.1\r\nhost: x\r\nx: "
        )
        await wait_until(lambda: running.swapper.waiting == 1, "the first one waits")
        if not complete:
            for _ in range(10):
                await connection.send(b"y" * 10_000)
        running.swapper.ready.set()
        assert (await connection.read_response()).status == 502  # no server listens there
        assert (await connection.read_response()).status == (408 if complete else 431)
        assert await connection.read_to_end() == b""


async def test_expect_100_continue_is_answered_before_the_body() -> None:
    async with stack(well_behaved) as (running, server), connect(running) as connection:
        await connection.send(request_head("expect: 100-continue", f"content-length: {len(CHAT)}"))
        assert (await connection.read_response(without_body=True)).status == 100
        assert server.requests == []
        await connection.send(CHAT)
        assert (await connection.read_response()).status == 200
        await connection.send(request_head("expect: 100-continue", "content-length: 99999999999"))
        assert (await connection.read_response()).status == 413, (
            "no 100 Continue for a body that will be refused"
        )


@pytest.mark.parametrize("stream", [False, True])
async def test_http_1_0_is_supported(*, stream: bool) -> None:
    body = json.dumps(chat_request(stream=stream)).encode()
    async with stack(well_behaved) as (running, _):
        async with connect(running) as connection:
            await connection.send(whole_request(body, version="1.0"))
            response = await connection.read_response()
            assert response.status == 200
            assert "transfer-encoding" not in response.headers
            assert response.headers["connection"] == "close"
            assert response.body.endswith(b"[DONE]\n\n" if stream else b"}")
            assert await connection.read_to_end() == b""
        async with connect(running) as connection:
            for _ in range(2):
                await connection.send(whole_request(body, "connection: keep-alive", version="1.0"))
                response = await connection.read_response()
                assert response.headers["connection"] == ("close" if stream else "keep-alive")
                if stream:
                    break


async def test_a_response_to_head_has_no_body() -> None:
    async with stack(well_behaved) as (running, server), connect(running) as connection:
        for path in ("/", "/upstream/code-fast/health", "/v1/chat/completions"):
            await connection.send(request_head(method="HEAD", path=path))
            await connection.read_response(without_body=True)
        await connection.send(HEALTH)
        assert (await connection.read_response()).body == b'{"status":"ok"}'
        assert [request.line for request in server.requests] == ["HEAD /health HTTP/1.1"]


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
async def test_an_upgrade_is_ignored(upgrade: str) -> None:
    lines = (f"upgrade: {upgrade}", "connection: upgrade", "http2-settings: AAMAAABkAAQ")
    async with stack(well_behaved) as (running, server), connect(running) as connection:
        await connection.send(request_head(*lines, method="GET", path="/health") + HEALTH)
        assert [(await connection.read_response()).status for _ in range(2)] == [200, 200]
        data = whole_request(CHAT, *lines) + HEALTH
        for cut in (0, data.index(CHAT), data.index(CHAT) + 5, len(data) - 5):
            await connection.send(data[:cut])
            await asyncio.sleep(0.01)
            await connection.send(data[cut:])
            assert [(await connection.read_response()).status for _ in range(2)] == [200, 200]
            assert server.requests[-1].body == CHAT
        assert "upgrade" not in server.requests[0].headers
        await connection.send(request_head(*lines, CHUNKED) + chunked_body(CHAT, 9))
        assert (await connection.read_response()).status == 400


async def test_an_absolute_target_is_accepted() -> None:
    async with router(FakeSwapper()) as running, connect(running) as connection:
        await connection.send(request_head(method="GET", path="http://localhost:1/health?x#y"))
        assert (await connection.read_response()).status == 200


async def test_a_half_closed_client_still_gets_responses_that_are_ready() -> None:
    async with router(FakeSwapper()) as running, connect(running) as connection:
        await connection.send(HEALTH + HEALTH)
        connection.writer.write_eof()
        assert (await connection.read_to_end()).count(b"HTTP/1.1 200 OK") == 2


# Resources after clients have disconnected


async def leave_at_once(port: int, data: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.write(data)
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
    return [item for item in gc.get_objects() if isinstance(item, Exchange)]


async def test_an_answered_request_is_freed_without_the_garbage_collector() -> None:
    async with stack(well_behaved) as (running, _), connect(running) as connection:
        with without_collector():
            for _ in range(5):
                await connection.send(whole_request())
                assert (await connection.read_response()).status == 200
            await running.wait_until_idle()
            assert len(exchanges()) <= 1  # the last one, until the next arrives


async def test_an_abandoned_request_is_freed_without_the_garbage_collector() -> None:
    async with stack(IncomingRequest.wait_until_disconnected) as (running, server):
        with without_collector():
            for _ in range(5):
                server.requests.clear()
                async with connect(running) as connection:
                    await connection.send(whole_request())
                    await wait_until(lambda: bool(server.requests), "the request has reached the server")
            await wait_until(lambda: running.server.connections == 0, "the connections are closed")
            await running.wait_until_idle()
            assert exchanges() == []


async def test_clients_that_reset_the_connection_leak_nothing(caplog: pytest.LogCaptureFixture) -> None:
    streaming = whole_request(json.dumps(chat_request(stream=True)).encode())
    async with stack(well_behaved) as (running, server):
        for data in (
            b"",
            HEALTH,
            HEALTH[:9],
            whole_request(),
            whole_request()[:-3],
            streaming,
            whole_request() + whole_request(),
            b"\0" * 99,
        ):
            await asyncio.gather(*(leave_at_once(running.port, data) for _ in range(10)))
        await wait_until(lambda: running.server.connections == 0, "every connection is closed")
        await running.wait_until_idle()
        await running.app.service.upstream.close()
        await wait_until(lambda: server.open == 0, "no connection to the server is left")
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


# Stopping


async def test_stopping_closes_idle_connections_and_finishes_running_requests() -> None:
    go_on = asyncio.Event()

    async def slow(request: IncomingRequest) -> None:
        await go_on.wait()
        await well_behaved(request)

    async with stack(slow) as (running, server), connect(running) as idle, connect(running) as busy:
        await idle.send(HEALTH)
        assert (await idle.read_response()).status == 200
        await busy.send(whole_request() + HEALTH)
        await wait_until(lambda: len(server.requests) == 1, "a request runs")
        running.server.stop()
        assert await idle.read_to_end() == b""
        go_on.set()
        first, last = (
            await busy.read_response(),
            await busy.read_response(),
        )  # the first is not yet the connection's last
        assert (first.status, first.headers.get("connection")) == (200, None)
        assert (last.status, last.headers["connection"]) == (200, "close")
        assert await busy.read_to_end() == b""


async def test_a_request_after_the_last_response_has_started_is_not_answered() -> None:
    begin, end = asyncio.Event(), asyncio.Event()

    async def slow(request: IncomingRequest) -> None:
        await begin.wait()
        await request.start_stream()
        await request.chunk(event("hi"))
        await end.wait()
        await request.chunk(event("", finish="stop"))
        await request.end_stream()

    async with stack(slow) as (running, server), connect(running) as connection:
        await connection.send(whole_request(json.dumps(chat_request(stream=True)).encode()))
        await wait_until(lambda: len(server.requests) == 1, "a request runs")
        running.server.stop()
        begin.set()
        response = await connection.reader.readuntil(b"hi")
        assert b"connection: close" in response
        await connection.send(HEALTH)
        end.set()
        assert b"HTTP/1.1" not in await connection.read_to_end()


async def test_stopping_takes_a_bounded_time() -> None:
    async def never(request: IncomingRequest) -> None:
        await request.wait_until_disconnected()

    setup = Setup(limits=HttpLimits(drain_s=0.05, cut_s=0.05))
    async with stack(never, setup) as (running, _), connect(running) as connection, connect(running) as half:
        await half.send(HEALTH[:-2])
        await connection.send(whole_request())
        await wait_until(lambda: running.swapper.leases == 1, "a request runs")
        running.server.stop()
        assert (await connection.read_response()).code == "router_stopping"
        await wait_until(lambda: running.server.connections == 0, "everything has ended", 2.0)

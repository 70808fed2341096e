"""Comments that are sent while a model loads, and requests whose clients have disconnected."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING

import pytest
from router.clients import COMPLETION, DONE, chat, chat_request, event, raw_client, request, well_behaved
from router.harness import SHORT_TIMEOUTS, FakeSwapper, IncomingRequest, Setup, router, stack, wait_until

from llmstack.router.app import RouterApp
from llmstack.router.http.server import Server
from llmstack.router.keepalive import WaitTimeouts
from llmstack.serving.errors import TierUnavailableError

if TYPE_CHECKING:
    from llmstack.router.service import Service

DECISION = b": llmstack tier=code-ultra tokens=1 reason=short: 1 <= 12000 tokens\n\n"
SOON = Setup(timeouts=SHORT_TIMEOUTS)


def test_by_default_comments_begin_after_two_seconds() -> None:
    assert WaitTimeouts() == WaitTimeouts(quiet_s=2.0, comment_s=5.0)


async def test_a_streaming_client_gets_silence_then_comments_then_the_response() -> None:
    async with stack(well_behaved, Setup(timeouts=WaitTimeouts(0.3, 0.05))) as (running, _):
        running.swapper.ready.clear()
        async with raw_client(running, chat_request(stream=True)) as (reader, _writer):
            started = time.monotonic()
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert time.monotonic() - started >= 0.25
            assert head.startswith(b"HTTP/1.1 200")
            assert b"x-llmstack-tier: code-ultra\r\n" in head
            await asyncio.wait_for(reader.readuntil(DECISION), 5)
            for _ in range(3):
                await asyncio.wait_for(reader.readuntil(b": waiting for code-ultra, 0 s\n\n"), 5)
            running.swapper.ready.set()
            await asyncio.wait_for(reader.readuntil(DONE), 5)
        await running.wait_until_idle()
        assert running.recent[-1]["outcome"] == "ok"


async def test_comments_are_sent_while_the_first_token_is_slow() -> None:
    go_on = asyncio.Event()

    async def prefill(request: IncomingRequest) -> None:
        await go_on.wait()
        await well_behaved(request)

    async with (
        stack(prefill, SOON) as (running, _),
        raw_client(running, chat_request(stream=True)) as (reader, _w),
    ):
        await asyncio.wait_for(reader.readuntil(DECISION), 5)
        await asyncio.wait_for(reader.readuntil(b": waiting for the first token of code-ultra, 0 s\n\n"), 5)
        go_on.set()
        rest = await asyncio.wait_for(reader.readuntil(DONE), 5)
        assert b"finish_reason" in rest


async def test_a_client_that_does_not_stream_gets_no_comments() -> None:
    async with stack(well_behaved, SOON) as (running, _):
        running.swapper.ready.clear()
        waiting = asyncio.create_task(chat(running))
        await wait_until(lambda: running.swapper.waiting == 1, "the request is in the queue")
        done, _ = await asyncio.wait((waiting,), timeout=0.4)
        assert not done
        running.swapper.ready.set()
        reply = await waiting
        assert (reply.status, json.loads(reply.body)) == (200, COMPLETION)


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (TierUnavailableError("the queue is full", retry_after=10), 503, "model_busy", "10"),
        (TierUnavailableError("it cannot start", hint="see the log"), 503, "model_unavailable", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_immediate_refusal_is_an_http_error(
    error: TierUnavailableError, status: int, code: str, retry: str | None, *, stream: bool
) -> None:
    async with stack(well_behaved) as (running, _):
        running.swapper.acquire_error = error
        reply = await chat(running, chat_request(model="code-ultra", stream=stream))
        assert (reply.status, reply.error["code"], reply.error["origin"]) == (status, code, "swapper")
        assert reply.headers.get("retry-after") == retry
        assert reply.headers["x-llmstack-tier"] == "code-ultra"


async def test_a_failure_after_comments_is_an_error_event() -> None:
    async with stack(well_behaved, SOON) as (running, _):
        running.swapper.ready.clear()
        running.swapper.acquire_error = TierUnavailableError("it cannot start", hint="see the log")
        async with raw_client(running, chat_request(stream=True)) as (reader, _writer):
            await asyncio.wait_for(reader.readuntil(DECISION), 5)
            running.swapper.ready.set()
            rest = await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 5)
        assert b'data: {"error": {"message": "it cannot start (see the log)", "type": "server_error"' in rest


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [("400 Bad", "upstream_400", "invalid_request_error"), ("200 OK", "not_a_stream", "server_error")],
)
async def test_a_complete_response_after_comments_is_an_error_event(
    status: str, code: str, kind: str
) -> None:
    go_on = asyncio.Event()

    async def slowly(request: IncomingRequest) -> None:
        await go_on.wait()
        await request.respond(b'{"error":{"message":"exceeds the available context size"}}', status=status)

    async with stack(slowly, SOON) as (running, _):
        waiting = asyncio.create_task(chat(running, chat_request(stream=True)))
        await asyncio.sleep(SHORT_TIMEOUTS.quiet_s * 2)
        go_on.set()
        reply = await waiting
        assert (reply.status, reply.last_error["code"], reply.last_error["type"]) == (200, code, kind)
        if code != "not_a_stream":
            assert reply.last_error["message"] == "exceeds the available context size"


# Clients that disconnect


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_disconnects_leaves_the_queue(*, stream: bool) -> None:
    async with stack(well_behaved) as (running, server):
        running.swapper.ready.clear()
        async with raw_client(running, chat_request(stream=stream)):
            await wait_until(lambda: running.swapper.waiting == 1, "the request is in the queue")
        await wait_until(lambda: running.swapper.waiting == 0, "the request has left the queue", 1.0)
        await running.wait_until_idle()
        assert (running.swapper.granted, server.requests) == (0, [])
        assert running.recent[-1]["outcome"] == "client_gone"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_disconnects_cancels_a_hanging_request(*, stream: bool) -> None:
    async def hang(request: IncomingRequest) -> None:
        await request.wait_until_disconnected()
        request.close()

    async with stack(hang) as (running, server):
        async with raw_client(running, chat_request(stream=stream)):
            await wait_until(lambda: len(server.requests) == 1, "the server has the request")
        await wait_until(lambda: server.open == 0, "the connection to the server is closed", 1.0)
        await running.wait_until_idle()
        assert running.swapper.granted == 1


async def test_a_client_that_disconnects_in_mid_stream_cancels_the_stream() -> None:
    async def endless(request: IncomingRequest) -> None:
        await request.start_stream()
        while not request.writer.is_closing():
            await request.chunk(event("more"))
            await asyncio.sleep(0.01)

    async with stack(endless) as (running, server):
        async with raw_client(running, chat_request(stream=True)) as (reader, _writer):
            await asyncio.wait_for(reader.readuntil(b"more"), 5)
        await wait_until(lambda: server.open == 0, "the connection to the server is closed", 1.0)
        await running.wait_until_idle()
        assert running.recent[-1]["outcome"] == "client_gone"


async def test_a_client_that_reads_slowly_slows_the_server_down() -> None:
    sent = 0

    async def flood(request: IncomingRequest) -> None:
        nonlocal sent
        await request.start_stream()
        for _ in range(2000):
            await request.chunk(event("x" * 65_536))
            sent += 1
        await request.chunk(event(None, "stop"))
        await request.end_stream()

    async with (
        stack(flood) as (running, _),
        raw_client(running, chat_request(stream=True)) as (reader, writer),
    ):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wait_until(lambda: sent > 10, "the stream has started")
        sent_before = -1
        while sent_before != sent:
            sent_before = sent
            await asyncio.sleep(0.1)
        assert sent < 1000
        assert reader is not None


async def test_clients_that_disconnect_at_any_moment_leak_no_lease() -> None:
    async with stack(well_behaved) as (running, _):

        async def leave_after(number: int) -> None:
            async with raw_client(running, chat_request(stream=number % 2 == 0)) as (reader, _writer):
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                if number % 3 == 0:
                    await reader.read(10)

        await asyncio.gather(*(leave_after(number) for number in range(60)))
        await running.wait_until_idle()
        assert running.swapper.leases == 0


async def test_a_delivered_response_is_not_recorded_as_a_disconnect() -> None:
    async with stack(well_behaved) as (running, _):
        for stream in (False, True) * 5:
            await chat(running, chat_request(stream=stream))
        await running.wait_until_idle()
        assert {record["outcome"] for record in running.recent} == {"ok"}


# Draining


async def test_draining_ends_streams_and_queued_requests_with_an_error() -> None:
    async def half(request: IncomingRequest) -> None:
        await request.start_stream()
        await request.chunk(event("hello") + event("you")[:-10])
        await request.wait_until_disconnected()

    async with stack(half, SOON) as (running, _):
        streaming = asyncio.create_task(chat(running, chat_request(stream=True)))
        await wait_until(lambda: running.swapper.leases == 1, "a stream is in flight")
        running.swapper.ready.clear()
        queued = asyncio.create_task(chat(running))
        commented = asyncio.create_task(chat(running, chat_request(stream=True)))
        await wait_until(lambda: running.swapper.waiting == 2, "two requests are in the queue")
        await asyncio.sleep(SHORT_TIMEOUTS.quiet_s * 2)
        started = time.monotonic()
        running.server.stop()
        first, second, third = await asyncio.gather(streaming, queued, commented)
        assert (first.status, first.last_error["code"]) == (200, "router_stopping")
        assert first.events[0] == event("hello").decode().rstrip()
        assert "you" not in str(first.events)
        assert (second.status, second.error["code"]) == (503, "router_stopping")
        assert second.headers["retry-after"] == "5"
        assert (third.status, third.last_error["code"]) == (200, "router_stopping")
        await running.wait_until_idle()
        assert time.monotonic() - started < 4


async def test_a_request_during_draining_is_refused() -> None:
    async with router(FakeSwapper()) as running:
        running.app.drain()
        reply = await request(running, "POST", "/v1/chat/completions", chat_request())
        assert (reply.status, reply.error["code"]) == (503, "router_stopping")


async def test_a_router_that_cannot_start_does_not_serve() -> None:
    async def create_service() -> Service:
        raise RuntimeError("no state, no service")

    server = Server(RouterApp(create_service))
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(RuntimeError, match="no state"):
        await server.serve(listening)
    assert not server.started

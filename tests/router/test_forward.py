"""Passing responses on, and what a client gets if the model server fails."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest
from router.clients import (
    COMPLETION,
    DONE,
    USAGE,
    chat,
    chat_request,
    event,
    raw_client,
    request,
    well_behaved,
)
from router.harness import ULTRA, FakeSwapper, IncomingRequest, Setup, config, router, stack
from router.raw_http import connect, whole_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ALONE = Setup(config(ULTRA))  # no other tier could serve
COMPLETION_BODY = json.dumps(COMPLETION).encode()


async def reset(request: IncomingRequest) -> None:
    request.reset()


async def close(request: IncomingRequest) -> None:
    request.close()


async def garbage(request: IncomingRequest) -> None:
    await request.send(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    request.close()


async def truncated_body(request: IncomingRequest) -> None:
    await request.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n" + COMPLETION_BODY
    )
    request.close()


async def truncated_head(request: IncomingRequest) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\ncontent-type: appl")
    request.close()


async def reset_after_head(request: IncomingRequest) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{")
    request.reset()


async def bad_chunks(request: IncomingRequest) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n")
    request.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "script", [reset, close, garbage, truncated_body, truncated_head, reset_after_head, bad_chunks]
)
async def test_a_server_that_fails_before_content_is_a_502(
    script: Callable[[IncomingRequest], Awaitable[None]], *, stream: bool
) -> None:
    async with stack(script, ALONE) as (running, server):
        reply = await chat(running, chat_request(stream=stream))
        assert (reply.status, reply.error["code"], reply.error["origin"]) == (
            502,
            "engine_unreachable",
            "engine",
        )
        assert reply.error["type"] == "server_error"
        assert reply.headers["x-llmstack-tier"] == "code-ultra"
        assert reply.headers["x-llmstack-tokens"] == "1"
        assert len(server.requests) == 1, "a request is not repeated after a new connection broke"
        await running.wait_until_idle()
        assert running.swapper.granted == 1


async def test_an_unreachable_server_is_a_502() -> None:
    async with router(FakeSwapper("http://127.0.0.1:1")) as running:
        reply = await chat(running)
        assert reply.status == 502
        assert "cannot connect" in reply.error["message"]
        await running.wait_until_idle()


async def test_a_server_that_ended_is_explained_with_its_last_log_lines() -> None:
    async with stack(reset, ALONE) as (running, _):
        running.swapper.failure_reason = "the model server of code-ultra ended (exit code 1)\n  out of memory"
        reply = await chat(running)
        assert (reply.status, reply.error["code"]) == (502, "engine_ended")
        assert "out of memory" in reply.error["message"]


async def test_a_dead_idle_connection_is_replaced_without_an_error() -> None:
    async def once(request: IncomingRequest) -> None:
        # answers, advertises keep-alive, and drops the next request on the same connection
        if sum(other.writer is request.writer for other in server.requests) == 1:
            await request.respond(COMPLETION_BODY)
        else:
            request.close()

    async with stack(once) as (running, server):
        replies = [await chat(running) for _ in range(3)]
        assert [(reply.status, reply.body) for reply in replies] == [(200, COMPLETION_BODY)] * 3
        # 1: answered. 2 and 3: dropped, then once more on a new connection.
        assert len(server.requests) == 5
        assert {request.body for request in server.requests} == {server.requests[0].body}


async def test_a_request_is_not_sent_a_third_time() -> None:
    async def first_only(request: IncomingRequest) -> None:
        if len(server.requests) == 1:
            await request.respond(COMPLETION_BODY)
        else:
            request.close()

    async with stack(first_only, ALONE) as (running, server):
        assert (await chat(running)).status == 200
        assert (await chat(running)).status == 502
        assert len(server.requests) == 3
        await running.wait_until_idle()


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"<html>not even JSON</html>", "upstream_500", "<html>not even JSON</html>"),
        (b'[{"error":{"code":500,"message":"oh","status":"INTERNAL"}}]', "INTERNAL", "oh"),
        (b'{"error":"model not found"}', "upstream_500", "model not found"),
        (b'{"object":"error","message":"oh","type":"internal","code":null}', "internal", "oh"),
    ],
)
async def test_errors_of_other_formats_are_converted_to_openais(body: bytes, code: str, message: str) -> None:
    async def refuse(request: IncomingRequest) -> None:
        await request.respond(body, status="500 Oops", content_type="text/html")

    async with stack(refuse, ALONE) as (running, _):
        reply = await chat(running, chat_request())
    error = {"type": "server_error", "param": None, "origin": "engine", "code": code, "message": message}
    assert (reply.status, reply.headers["content-type"]) == (500, "application/json")
    assert json.loads(reply.body) == {"error": error}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            "400 Bad Request",
            b'{"error":{"code":400,"message":"request (9) exceeds the available context size"}}',
        ),
        ("429 Too Many", b'{"error":{"message":"slow down"}}'),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_openai_errors_of_the_server_are_passed_on_unchanged(
    status: str, body: bytes, *, stream: bool
) -> None:
    async def refuse(request: IncomingRequest) -> None:
        await request.respond(body, status=status)

    async with stack(refuse, ALONE) as (running, _):
        reply = await chat(running, chat_request(stream=stream))
        assert (reply.status, reply.body) == (int(status[:3]), body)
        assert reply.headers["x-llmstack-tier"] == "code-ultra"
        await running.wait_until_idle()
        assert running.recent[-1]["outcome"] == f"upstream_{status[:3]}"


async def test_a_stream_is_passed_on_byte_for_byte() -> None:
    async with stack(well_behaved) as (running, _):
        reply = await chat(running, chat_request(stream=True))
        assert reply.body == event("he") + event("llo") + event(None, "stop") + USAGE + DONE
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/event-stream"
        assert reply.headers["x-llmstack-reason"] == "short: 1 <= 12000 tokens"
        assert running.recent[-1]["outcome"] == "ok"


async def test_the_end_of_a_stream_is_recognised_wherever_it_is_cut() -> None:
    whole = event("hi") + event(None, "stop") + DONE
    cut = 0

    async def cut_in_two(request: IncomingRequest) -> None:
        await request.start_stream()
        await request.chunk(whole[:cut])
        await asyncio.sleep(0)
        await request.chunk(whole[cut:])
        await request.end_stream()

    async with stack(cut_in_two) as (running, _):
        for cut in range(len(event("hi")), len(whole)):
            assert (await chat(running, chat_request(stream=True))).body == whole, cut


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_chunks_are_passed_on_one_by_one(version: str) -> None:
    seen = asyncio.Event()
    half, rest = event("cut in two")[:30], event("cut in two")[30:]
    parts = (event("he"), event("llo") * 2, half, rest, event("x" * 40_000), event(None, "stop"), USAGE, DONE)

    async def one_by_one(request: IncomingRequest) -> None:
        await request.start_stream()
        for part in parts:
            await request.send(
                b"%X\r\n%b\r\n" % (len(part), part)
            )  # some servers write the size in upper case
            if part != half:
                await seen.wait()
                seen.clear()
        await request.end_stream()

    async with stack(one_by_one) as (running, _), connect(running) as connection:
        await connection.send(whole_request(json.dumps(chat_request(stream=True)).encode(), version=version))
        head = await asyncio.wait_for(connection.reader.readuntil(b"\r\n\r\n"), 5)
        framed, framing = b"", b"chunked" in head
        for part in parts:
            if part != half:
                framed += await asyncio.wait_for(
                    connection.reader.readuntil(part[-12:] + b"\r\n" * framing), 5
                )
                seen.set()
        end = await asyncio.wait_for(
            connection.reader.readuntil(b"0\r\n\r\n") if framing else connection.read_to_end(), 5
        )
        assert end == (b"0\r\n\r\n" if framing else b"")
        assert (unframed(framed) if framing else framed) == b"".join(parts)
        await running.wait_until_idle()
        assert running.recent[-1]["outcome"] == "ok"


def unframed(chunks: bytes) -> bytes:
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        body += chunks[: int(size, 16)]
        assert chunks[int(size, 16) :].startswith(b"\r\n")
        chunks = chunks[int(size, 16) + 2 :]
    return body


ENDS: dict[str, Callable[[IncomingRequest], Awaitable[None]]] = {
    "clean": IncomingRequest.end_stream,
    "closed": close,
    "reset": reset,
}
HALF = event("hello")[:40]


@pytest.mark.parametrize(
    "sent",
    [
        (event("hello"),),
        (event("hello"), HALF),  # in the middle of an event
        (event("hello") + DONE,),  # [DONE] without a finish reason: clients loop on it
        (event("hello"), DONE),
        (event('say "finish_reason":"stop" \n\ndata: [DONE]'),),
        (b'data: {"choices":[{"delta":{},"finish_reason":""}]}\n\n',),
    ],
)
@pytest.mark.parametrize("how", ["clean", "reset", "closed"])
async def test_a_stream_that_is_cut_ends_with_an_error_event(sent: tuple[bytes, ...], how: str) -> None:
    seen = asyncio.Event()

    async def cut(request: IncomingRequest) -> None:
        await request.start_stream()
        for part in sent:
            await request.chunk(part)
        await seen.wait()
        await ENDS[how](request)

    async with (
        stack(cut, ALONE) as (running, _),
        raw_client(running, chat_request(stream=True)) as (reader, _writer),
    ):
        body = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert body.startswith(b"HTTP/1.1 200")
        whole = b"".join(part for part in sent if part != HALF).removesuffix(DONE)
        await asyncio.wait_for(reader.readuntil(whole[-20:]), 5)
        seen.set()
        rest = await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 5)
        await running.wait_until_idle()
        code = running.recent[-1]["outcome"]
    assert code == ("stream_cut" if how == "clean" else "engine_unreachable")
    assert HALF not in rest, "half an event is not passed on"
    assert DONE not in rest
    error = json.loads(rest[rest.rindex(b"data: ") :].split(b"\n\n")[0].removeprefix(b"data: "))["error"]
    assert (error["code"], error["origin"]) == (code, "engine")


@pytest.mark.parametrize("how", ["clean", "reset", "closed"])
async def test_a_stream_that_ends_before_content_is_an_http_error(how: str) -> None:
    async def cut(request: IncomingRequest) -> None:
        await request.start_stream()
        await ENDS[how](request)

    async with stack(cut, ALONE) as (running, _):
        reply = await chat(running, chat_request(stream=True))
        assert (reply.status, reply.headers["content-type"]) == (502, "application/json")
        assert reply.error["code"] == ("stream_failed" if how == "clean" else "engine_unreachable")
        assert reply.error["origin"] == "engine"


async def test_no_second_error_event_follows_one_of_the_server() -> None:
    async def fails(request: IncomingRequest) -> None:
        await request.start_stream()
        await request.chunk(event("hello") + b'data: {"error":{"message":"boom"}}\n\n')
        await request.end_stream()

    async with stack(fails, ALONE) as (running, _):
        reply = await chat(running, chat_request(stream=True))
        assert reply.body == event("hello") + b'data: {"error":{"message":"boom"}}\n\n'


async def test_a_complete_response_to_a_streaming_request_is_an_error() -> None:
    async def whole(request: IncomingRequest) -> None:
        await request.respond(COMPLETION_BODY)

    async with stack(whole) as (running, _):
        reply = await chat(running, chat_request(stream=True))
        assert (reply.status, reply.error["code"]) == (502, "not_a_stream")


async def test_chunks_are_passed_on_without_delay() -> None:
    go_on = asyncio.Event()

    async def drip(request: IncomingRequest) -> None:
        await request.start_stream()
        await request.chunk(event("first"))
        await go_on.wait()
        await request.chunk(event("last", "stop"))
        await request.end_stream()

    async with (
        stack(drip) as (running, _),
        raw_client(running, chat_request(stream=True)) as (reader, _writer),
    ):
        await asyncio.wait_for(reader.readuntil(b"first"), 5)
        early = time.monotonic()
        go_on.set()  # the last chunk is not even sent before the first one is here
        await asyncio.wait_for(reader.readuntil(b"last"), 5)
        assert time.monotonic() >= early
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)


async def test_bodies_of_twenty_megabytes_are_passed_on_both_ways() -> None:
    big = json.dumps({**COMPLETION, "padding": "x" * 20 * 2**20}).encode()

    async def echo_size(request: IncomingRequest) -> None:
        await request.respond(big)

    async with stack(echo_size) as (running, server):
        reply = await chat(running, chat_request("y" * 20 * 2**20, model="code-fast"))
        assert (reply.status, reply.body == big) == (200, True)
        assert len(server.requests[0].body) > 20 * 2**20


async def test_streams_of_unknown_paths_are_passed_on_unchecked() -> None:
    async def anthropic(request: IncomingRequest) -> None:
        await request.start_stream()
        await request.chunk(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
        await request.end_stream()

    async with stack(anthropic) as (running, server):
        reply = await request(running, "POST", "/v1/other?beta=true", {"model": "agent", "stream": True})
        assert reply.body == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        assert server.requests[0].line == "POST /v1/other?beta=true HTTP/1.1"
        assert server.requests[0].body == b'{"model": "code-smart", "stream": true}'


@pytest.mark.parametrize("streams", [False, True])
async def test_an_error_of_a_proxy_before_the_server_is_explained(streams: bool) -> None:  # noqa: FBT001 - a parameter
    async def bad_gateway(request: IncomingRequest) -> None:
        await request.respond(b"", status="502 Bad Gateway")

    async with stack(bad_gateway, ALONE) as (running, _):
        running.swapper.explanation = lambda status, body: f"it ended: {status} {body!r}"
        reply = await chat(running, chat_request(stream=streams))
        assert (reply.status, reply.error["code"]) == (502, "engine_ended")
        assert reply.error["message"] == "it ended: 502 b''"

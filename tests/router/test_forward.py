"""What a client sees of a model server that fails, in every way that one can."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest
from router.clients import COMPLETION, DONE, USAGE, asking, chat, event, raw_client, request, well_behaved
from router.harness import ULTRA, Asked, FakeSwapper, Setup, config, router, stack
from router.wire import connected, whole

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ALONE = Setup(config(ULTRA))  # nobody else could serve
HI = json.dumps(COMPLETION).encode()


async def reset(asked: Asked) -> None:
    asked.reset()


async def close(asked: Asked) -> None:
    asked.close()


async def garbage(asked: Asked) -> None:
    await asked.say(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    asked.close()


async def truncated_body(asked: Asked) -> None:
    await asked.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n" + HI)
    asked.close()


async def truncated_head(asked: Asked) -> None:
    await asked.say(b"HTTP/1.1 200 OK\r\ncontent-type: appl")
    asked.close()


async def reset_after_head(asked: Asked) -> None:
    await asked.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{")
    asked.reset()


async def bad_chunks(asked: Asked) -> None:
    await asked.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n")
    asked.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "script", [reset, close, garbage, truncated_body, truncated_head, reset_after_head, bad_chunks]
)
async def test_server_that_breaks_before_content_is_a_502(
    script: Callable[[Asked], Awaitable[None]], *, stream: bool
) -> None:
    async with stack(script, ALONE) as (running, behind):
        reply = await chat(running, asking(stream=stream))
        assert (reply.status, reply.error["code"], reply.error["origin"]) == (
            502,
            "engine_unreachable",
            "engine",
        )
        assert reply.error["type"] == "server_error"
        assert reply.headers["x-llmstack-tier"] == "code-ultra"
        assert reply.headers["x-llmstack-tokens"] == "1"
        assert len(behind.requests) == 1, "a new connection that breaks is not tried again"
        await running.idle()
        assert running.swapper.granted == 1


async def test_server_that_is_not_there() -> None:
    async with router(FakeSwapper("http://127.0.0.1:1")) as running:
        reply = await chat(running)
        assert reply.status == 502
        assert "cannot connect" in reply.error["message"]
        await running.idle()


async def test_server_that_ended_is_explained_with_its_last_words() -> None:
    async with stack(reset, ALONE) as (running, _):
        running.swapper.last_words = "the model server of code-ultra ended (exit code 1)\n  out of memory"
        reply = await chat(running)
        assert (reply.status, reply.error["code"]) == (502, "engine_ended")
        assert "out of memory" in reply.error["message"]


async def test_a_used_connection_that_died_is_replaced_without_a_word() -> None:
    async def once(asked: Asked) -> None:
        # answers, advertises keep-alive, and drops the next request on the same connection
        if sum(other.writer is asked.writer for other in behind.requests) == 1:
            await asked.answer(HI)
        else:
            asked.close()

    async with stack(once) as (running, behind):
        replies = [await chat(running) for _ in range(3)]
        assert [(reply.status, reply.body) for reply in replies] == [(200, HI)] * 3
        # 1: answered. 2 and 3: dropped, then once more on a new connection.
        assert len(behind.requests) == 5
        assert {asked.body for asked in behind.requests} == {behind.requests[0].body}


async def test_a_second_failure_is_not_tried_again() -> None:
    async def first_only(asked: Asked) -> None:
        if len(behind.requests) == 1:
            await asked.answer(HI)
        else:
            asked.close()

    async with stack(first_only, ALONE) as (running, behind):
        assert (await chat(running)).status == 200
        assert (await chat(running)).status == 502
        assert len(behind.requests) == 3
        await running.idle()


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"<html>not even JSON</html>", "upstream_500", "<html>not even JSON</html>"),
        (b'[{"error":{"code":500,"message":"oh","status":"INTERNAL"}}]', "INTERNAL", "oh"),
        (b'{"error":"model not found"}', "upstream_500", "model not found"),
        (b'{"object":"error","message":"oh","type":"internal","code":null}', "internal", "oh"),
    ],
)
async def test_errors_that_are_not_openais_become_it(body: bytes, code: str, message: str) -> None:
    async def refuse(asked: Asked) -> None:
        await asked.answer(body, status="500 Oops", kind="text/html")

    async with stack(refuse, ALONE) as (running, _):
        reply = await chat(running, asking())
    told = {"type": "server_error", "param": None, "origin": "engine", "code": code, "message": message}
    assert (reply.status, reply.headers["content-type"]) == (500, "application/json")
    assert json.loads(reply.body) == {"error": told}


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
async def test_errors_of_the_server_are_passed_on_verbatim(status: str, body: bytes, *, stream: bool) -> None:
    async def refuse(asked: Asked) -> None:
        await asked.answer(body, status=status)

    async with stack(refuse, ALONE) as (running, _):
        reply = await chat(running, asking(stream=stream))
        assert (reply.status, reply.body) == (int(status[:3]), body)
        assert reply.headers["x-llmstack-tier"] == "code-ultra"
        await running.idle()
        assert running.recent[-1]["outcome"] == f"upstream_{status[:3]}"


async def test_a_stream_is_passed_on_byte_for_byte() -> None:
    async with stack(well_behaved) as (running, _):
        reply = await chat(running, asking(stream=True))
        assert reply.body == event("he") + event("llo") + event(None, "stop") + USAGE + DONE
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/event-stream"
        assert reply.headers["x-llmstack-reason"] == "short: 1 <= 12000 tokens"
        assert running.recent[-1]["outcome"] == "ok"


async def test_marks_cut_in_two_anywhere_are_still_seen() -> None:
    whole = event("hi") + event(None, "stop") + DONE
    cut = 0

    async def cut_in_two(asked: Asked) -> None:
        await asked.start_stream()
        await asked.chunk(whole[:cut])
        await asyncio.sleep(0)
        await asked.chunk(whole[cut:])
        await asked.end_stream()

    async with stack(cut_in_two) as (running, _):
        for cut in range(len(event("hi")), len(whole)):
            assert (await chat(running, asking(stream=True))).body == whole, cut


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_chunks_that_come_one_by_one(version: str) -> None:
    seen = asyncio.Event()
    half, rest = event("cut in two")[:30], event("cut in two")[30:]
    parts = (event("he"), event("llo") * 2, half, rest, event("x" * 40_000), event(None, "stop"), USAGE, DONE)

    async def one_by_one(asked: Asked) -> None:
        await asked.start_stream()
        for part in parts:
            await asked.say(b"%X\r\n%b\r\n" % (len(part), part))  # some write it in upper case
            if part != half:
                await seen.wait()
                seen.clear()
        await asked.end_stream()

    async with stack(one_by_one) as (running, _), connected(running) as wire:
        await wire.say(whole(json.dumps(asking(stream=True)).encode(), version=version))
        head = await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), 5)
        framed, framing = b"", b"chunked" in head
        for part in parts:
            if part != half:
                framed += await asyncio.wait_for(wire.reader.readuntil(part[-12:] + b"\r\n" * framing), 5)
                seen.set()
        end = await asyncio.wait_for(wire.reader.readuntil(b"0\r\n\r\n") if framing else wire.rest(), 5)
        assert end == (b"0\r\n\r\n" if framing else b"")
        assert (unframed(framed) if framing else framed) == b"".join(parts)
        await running.idle()
        assert running.recent[-1]["outcome"] == "ok"


def unframed(chunks: bytes) -> bytes:
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        body += chunks[: int(size, 16)]
        assert chunks[int(size, 16) :].startswith(b"\r\n")
        chunks = chunks[int(size, 16) + 2 :]
    return body


ENDS: dict[str, Callable[[Asked], Awaitable[None]]] = {
    "clean": Asked.end_stream,
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
async def test_a_stream_that_is_cut_ends_in_an_error_event(sent: tuple[bytes, ...], how: str) -> None:
    seen = asyncio.Event()

    async def cut(asked: Asked) -> None:
        await asked.start_stream()
        for part in sent:
            await asked.chunk(part)
        await seen.wait()
        await ENDS[how](asked)

    async with (
        stack(cut, ALONE) as (running, _),
        raw_client(running, asking(stream=True)) as (reader, _writer),
    ):
        body = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert body.startswith(b"HTTP/1.1 200")
        whole = b"".join(part for part in sent if part != HALF).removesuffix(DONE)
        await asyncio.wait_for(reader.readuntil(whole[-20:]), 5)
        seen.set()
        rest = await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 5)
        await running.idle()
        code = running.recent[-1]["outcome"]
    assert code == ("stream_cut" if how == "clean" else "engine_unreachable")
    assert HALF not in rest, "what a client could not read"
    assert DONE not in rest
    error = json.loads(rest[rest.rindex(b"data: ") :].split(b"\n\n")[0].removeprefix(b"data: "))["error"]
    assert (error["code"], error["origin"]) == (code, "engine")


@pytest.mark.parametrize("how", ["clean", "reset", "closed"])
async def test_a_stream_that_ends_before_it_began_is_an_http_error(how: str) -> None:
    async def cut(asked: Asked) -> None:
        await asked.start_stream()
        await ENDS[how](asked)

    async with stack(cut, ALONE) as (running, _):
        reply = await chat(running, asking(stream=True))
        assert (reply.status, reply.headers["content-type"]) == (502, "application/json")
        assert reply.error["code"] == ("stream_failed" if how == "clean" else "engine_unreachable")
        assert reply.error["origin"] == "engine"


async def test_an_error_event_of_the_server_is_enough() -> None:
    async def fails(asked: Asked) -> None:
        await asked.start_stream()
        await asked.chunk(event("hello") + b'data: {"error":{"message":"boom"}}\n\n')
        await asked.end_stream()

    async with stack(fails, ALONE) as (running, _):
        reply = await chat(running, asking(stream=True))
        assert reply.body == event("hello") + b'data: {"error":{"message":"boom"}}\n\n'


async def test_a_whole_answer_to_a_streaming_request_is_an_error() -> None:
    async def whole(asked: Asked) -> None:
        await asked.answer(HI)

    async with stack(whole) as (running, _):
        reply = await chat(running, asking(stream=True))
        assert (reply.status, reply.error["code"]) == (502, "not_a_stream")


async def test_chunks_are_passed_on_at_once() -> None:
    go_on = asyncio.Event()

    async def drip(asked: Asked) -> None:
        await asked.start_stream()
        await asked.chunk(event("first"))
        await go_on.wait()
        await asked.chunk(event("last", "stop"))
        await asked.end_stream()

    async with stack(drip) as (running, _), raw_client(running, asking(stream=True)) as (reader, _writer):
        await asyncio.wait_for(reader.readuntil(b"first"), 5)
        early = time.monotonic()
        go_on.set()  # the last chunk is not even sent before the first one is here
        await asyncio.wait_for(reader.readuntil(b"last"), 5)
        assert time.monotonic() >= early
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)


async def test_twenty_megabytes_each_way() -> None:
    big = json.dumps({**COMPLETION, "padding": "x" * 20 * 2**20}).encode()

    async def echo_size(asked: Asked) -> None:
        await asked.answer(big)

    async with stack(echo_size) as (running, behind):
        reply = await chat(running, asking("y" * 20 * 2**20, model="code-fast"))
        assert (reply.status, reply.body == big) == (200, True)
        assert len(behind.requests[0].body) > 20 * 2**20


async def test_other_paths_pass_through_with_their_own_idea_of_an_end() -> None:
    async def anthropic(asked: Asked) -> None:
        await asked.start_stream()
        await asked.chunk(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
        await asked.end_stream()

    async with stack(anthropic) as (running, behind):
        reply = await request(running, "POST", "/v1/other?beta=true", {"model": "agent", "stream": True})
        assert reply.body == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        assert behind.requests[0].line == "POST /v1/other?beta=true HTTP/1.1"
        assert behind.requests[0].body == b'{"model": "code-smart", "stream": true}'


@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_of_what_stands_before_the_server_is_explained(streams: bool) -> None:  # noqa: FBT001 - a parameter
    async def bad_gateway(asked: Asked) -> None:
        await asked.answer(b"", status="502 Bad Gateway")

    async with stack(bad_gateway, ALONE) as (running, _):
        running.swapper.explains = lambda status, body: f"it ended: {status} {body!r}"
        reply = await chat(running, asking(stream=streams))
        assert (reply.status, reply.error["code"]) == (502, "engine_ended")
        assert reply.error["message"] == "it ended: 502 b''"

"""Servers whose answers are endless, huge, or repeat a key: the router holds little, and tells the client."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from router.clients import chat, chat_request, event, request
from router.harness import Setup, config, scripted_server, stack, tier
from router.remote_tiers import router_with_tiers, server_tier
from support.providers import KEY

from llmstack import providers
from llmstack.config.model import Role
from llmstack.providers.translation.failures import StreamRedactor
from llmstack.router.dialects.chat import OpenaiChat
from llmstack.router.dialects.responses import Responses
from llmstack.router.failover import strip_leading_comments
from llmstack.units import KB, MB
from llmstack.upstream.limits import MAX_ERROR_BYTES, MAX_EVENT_BYTES, MAX_HELD_BYTES, MAX_TRANSLATED_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from router.harness import IncomingRequest

    from llmstack.providers.model_api import Model

    Script = Callable[[IncomingRequest], Awaitable[None]]

ALONE = Setup(config(tier("code-fast", Role.FAST)))
PART = b"x" * (256 * KB)
CHAT = "/v1/chat/completions"


def endless(status: str, content_type: str, start: bytes = b"") -> Script:
    """Return a script that sends a body without an end."""

    async def script(request: IncomingRequest) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
        await request.send(head.encode())
        if start:
            await request.chunk(start)
        while True:
            await request.chunk(PART)

    return script


def whole(body: bytes, *headers: str) -> Script:
    async def script(request: IncomingRequest) -> None:
        lines = (
            "HTTP/1.1 200 OK",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *headers,
        )
        await request.send("\r\n".join((*lines, "", "")).encode() + body)

    return script


@pytest.mark.parametrize("status", ["400 Bad Request", "500 Internal Server Error"])
async def test_an_endless_error_is_cut(status: str) -> None:
    async with stack(endless(status, "text/plain"), ALONE) as (running, server):
        async with asyncio.timeout(10):
            reply = await request(running, "POST", "/upstream/code-fast/x", b"{}")
        assert (reply.status, len(reply.body)) == (int(status[:3]), MAX_ERROR_BYTES)
        async with asyncio.timeout(10):
            reply = await chat(running)
        assert (reply.status, reply.error["message"]) == (int(status[:3]), "x" * 500)
        await running.wait_until_idle()
        assert server.open == 0


async def test_an_answer_that_is_too_long_to_hold_is_passed_on_as_it_comes() -> None:
    size = MAX_HELD_BYTES + 3 * MB
    half_received = asyncio.Event()

    async def script(request: IncomingRequest) -> None:
        await request.send(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode())
        await request.send(b"a" * (size - MB))
        await half_received.wait()
        await request.send(b"b" * MB)

    async with stack(script, ALONE) as (running, _), aiohttp.ClientSession() as session, asyncio.timeout(20):
        async with session.post(f"{running.url}{CHAT}", json=chat_request()) as response:
            assert (response.status, response.headers["x-llmstack-tier"]) == (200, "code-fast")
            start = await response.content.readexactly(MAX_HELD_BYTES)
            half_received.set()
            rest = await response.read()
        assert start + rest == b"a" * (size - MB) + b"b" * MB
        await running.wait_until_idle()
        assert running.recent[-1]["outcome"] == "ok"


async def test_a_long_answer_that_breaks_off_does_not_look_complete() -> None:
    async def breaks(request: IncomingRequest) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        await request.send(head)
        for _ in range(MAX_HELD_BYTES // len(PART) + 8):
            await request.chunk(PART)
        request.close()

    async with stack(breaks, ALONE) as (running, _):
        with pytest.raises(aiohttp.ClientPayloadError):
            await chat(running)
        await running.wait_until_idle()
        assert running.recent[-1]["outcome"] == "engine_unreachable"


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
async def test_an_answer_that_is_too_long_to_translate_is_an_error(path: str) -> None:
    script = endless("200 OK", "application/json")
    async with (
        scripted_server(script) as server,
        router_with_tiers(server_tier("far", "anthropic/claude-opus-4-6", server.url)) as running,
        asyncio.timeout(10),
    ):
        body = chat_request(model="far", input="hello", max_tokens=5)
        reply = await request(running, "POST", path, body)
        assert reply.status == 502
        assert f"its answer is larger than {MAX_HELD_BYTES // MB} MB" in reply.error["message"]


@pytest.mark.parametrize(
    ("label", "limit"), [("vllm/m", MAX_EVENT_BYTES), ("anthropic/claude-opus-4-6", MAX_TRANSLATED_BYTES)]
)
@pytest.mark.parametrize("start", [b"", event("a")])
async def test_an_endless_event_is_an_error(label: str, limit: int, start: bytes) -> None:
    script = endless("200 OK", "text/event-stream", start + b"data: ")
    async with (
        scripted_server(script) as server,
        router_with_tiers(server_tier("far", label, server.url)) as running,
        asyncio.timeout(20),
    ):
        reply = await chat(running, chat_request(model="far", stream=True))
        error = reply.error if reply.body.startswith(b"{") else reply.last_error
        assert f"an event of its answer is larger than {limit // MB} MB" in error["message"]


async def test_an_answer_of_too_many_objects_is_an_error() -> None:
    event = b'data: {"content":[' + b"[]," * 200_000 + b"]}\n\n"

    async def script(request: IncomingRequest) -> None:
        await request.start_stream()
        await request.chunk(event)
        await request.end_stream()

    async with (
        scripted_server(script) as server,
        router_with_tiers(server_tier("far", "anthropic/claude-opus-4-6", server.url)) as running,
    ):
        reply = await chat(running, chat_request(model="far", stream=True))
        assert "holds too many objects" in reply.error["message"]


async def test_tool_calls_without_an_end_are_an_error() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "x" * 64 * 1024}}
    delta = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}

    async def script(request: IncomingRequest) -> None:
        await request.start_stream()
        while True:
            await request.chunk(b"data: " + json.dumps(delta).encode() + b"\n\n")

    async with (
        scripted_server(script) as server,
        router_with_tiers(server_tier("far", "mistral/m", server.url)) as running,
        asyncio.timeout(20),
    ):
        body = chat_request(model="far", stream=True, max_tokens=5)
        reply = await request(running, "POST", "/v1/messages", body)
        assert "its tool calls are longer than 4 MB" in reply.body.decode().rpartition("event: error")[2]


def test_start_and_end_of_a_large_event_are_read() -> None:
    watch = Responses().watch()
    usage = b'"usage":{"input_tokens":3,"output_tokens":2}'
    events = b'data: {"type":"response.completed","x":"' + b"x" * 4 * MB + b'",' + usage + b"}\n\n"
    assert watch.feed(events) == events
    assert (watch.complete, watch.usage and watch.usage.prompt) == (True, 3)
    closed_early = OpenaiChat().watch()
    large = b'data: {"a":"' + b"x" * MB + b'"}\n\n'
    assert closed_early.feed(large + b"data: [DONE]\n\n") == large
    assert not closed_early.complete


@pytest.mark.parametrize(
    "filling", [b'"usage":{', b'"usage":{"a":', b'"type":   ', b'"error"', b'"finish_reason":    ', b"a"]
)
def test_hostile_events_are_searched_in_little_time(filling: bytes) -> None:
    before = time.process_time()
    for size in (500 * KB, MAX_EVENT_BYTES):
        text = b'data: {"usage":{' + filling * (size // len(filling)) + b"\n\n"
        for dialect in (OpenaiChat(), Responses()):
            watch = dialect.watch()
            assert watch.feed(text) == text
        assert OpenaiChat().usage(text) is None
    strip_leading_comments(b":a\n" * (MAX_EVENT_BYTES // 3))
    assert time.process_time() - before < 4


def echoing(*, stream: bool) -> Script:
    async def script(request: IncomingRequest) -> None:
        if stream:
            await request.start_stream(f"x-key: {KEY}")
            await request.chunk(event("a"))
            text = event(f"the key is {KEY}.")
            await request.chunk(text)
            middle = text.index(KEY.encode()) + 4
            await request.chunk(text[:middle])
            await asyncio.sleep(0.001)  # so that the router reads each on its own
            await request.chunk(text[middle:])
            await request.chunk(event(None, "stop"))
            await request.end_stream()
            return
        message = {"role": "assistant", "content": f"the key is {KEY}."}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        await whole(json.dumps({"choices": choices}).encode(), f"x-key: {KEY}")(request)

    return script


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/other"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_in_a_successful_answer_is_masked(path: str, *, stream: bool) -> None:
    async with (
        scripted_server(echoing(stream=stream)) as server,
        router_with_tiers(server_tier("far", "mistral/mistral-small-latest", server.url)) as running,
    ):
        reply = await request(running, "POST", path, chat_request(model="far", stream=stream, max_tokens=5))
        assert reply.status == 200
        assert KEY not in str(reply.headers)
        assert KEY.encode() not in reply.body
        assert reply.body.decode().count("the key is ….") == (2 if stream else 1)


async def test_a_key_in_a_long_answer_is_masked_wherever_its_parts_end() -> None:
    body = (b"x" * 999 + KEY.encode()) * (MAX_HELD_BYTES // 1000 + 500)
    async with (
        scripted_server(whole(body)) as server,
        router_with_tiers(server_tier("far", "mistral/mistral-small-latest", server.url)) as running,
    ):
        reply = await chat(running, chat_request(model="far"))
        assert reply.body == body.replace(KEY.encode(), "…".encode())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_key_is_masked_in_parts_of_any_size(size: int) -> None:
    text = b"a secret-1 and secret-1secret-2, secret-"
    redactor, output = StreamRedactor(["secret-1", "secret-2"]), b""
    for start in range(0, len(text), size):
        output += redactor.feed(text[start : start + size])
    assert (output + redactor.close()).decode() == "a … and ……, secret-"


HOP_HEADERS = {
    "x-request-id": "theirs",
    "set-cookie": "a=b",
    "clear-site-data": '"*"',
    "strict-transport-security": "max-age=1",
    "alt-svc": "h3=x",
    "report-to": "{}",
    "nel": "{}",
    "public-key-pins": "x",
    "service-worker-allowed": "/",
    "x-accel-redirect": "/etc/passwd",
    "attribution-reporting-register-source": "{}",
}


@pytest.mark.parametrize("stream", [False, True])
async def test_headers_that_a_browser_keeps_are_not_passed_on(*, stream: bool) -> None:
    lines = [f"{name}: {value}" for name, value in HOP_HEADERS.items()]

    async def script(request: IncomingRequest) -> None:
        if stream:
            await request.start_stream(*lines)
            await request.chunk(event(None, "stop"))
            await request.end_stream()
        else:
            await whole(b"{}", *lines)(request)

    async with stack(script, ALONE) as (running, _), aiohttp.ClientSession() as session:
        body: dict[str, Any] = chat_request(stream=stream)
        async with session.post(
            f"{running.url}{CHAT}", json=body, headers={"x-request-id": "mine"}
        ) as response:
            headers = response.headers
        assert headers.getall("x-request-id") == ["mine"]
        assert not set(HOP_HEADERS) - {"x-request-id"} & {name.lower() for name in headers}


async def read_stream(model: Model) -> None:
    async for _ in model.astream("hello"):
        pass


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (endless("200 OK", "application/json"), "its answer is larger than 16 MB"),
        (endless("400 Bad Request", "text/plain"), "answered 400: xxxx"),
        (endless("200 OK", "text/event-stream", b"data: "), "an event of its answer is larger than 4 MB"),
    ],
)
async def test_the_python_api_has_limits_too(script: Script, message: str, tmp_path: Path) -> None:
    async with scripted_server(script) as server, asyncio.timeout(20):
        model = providers.model("vllm/m", env={"VLLM_BASE_URL": server.url}, config_dir=tmp_path, retries=0)
        with pytest.raises(providers.ProviderError, match=message):
            await (read_stream(model) if "event" in message else model.acall("hello"))

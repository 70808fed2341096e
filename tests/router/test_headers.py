"""Headers that are passed on and those that are not, and what the log contains."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from router.clients import COMPLETION, chat, chat_request, request, request_raw_path, well_behaved
from router.harness import ENGINE_KEY, FakeSwapper, IncomingRequest, Setup, router, stack
from router.raw_http import CHAT, connect, whole_request

from llmstack.router.auth import RequestAuth

if TYPE_CHECKING:
    from collections.abc import Mapping


SENT = {
    "authorization": "Bearer client-key",
    "x-api-key": "client-key",
    "api-key": "client-key",
    "cookie": "session=client-key",
    "proxy-authorization": "Basic client-key",
    "origin": "http://localhost:3000",
    "referer": "http://localhost:3000/",
    "te": "trailers",
    "connection": "keep-alive, x-private",
    "x-private": "client-key",
    "proxy-connection": "keep-alive",
    "accept-encoding": "gzip",
    "accept": "text/event-stream",
    "user-agent": "agent/1",
    "x-session-id": "abc",
    "x-latin": "caf\xe9",
}


async def test_only_allowed_headers_reach_the_server() -> None:
    auth = RequestAuth("127.0.0.1", (), "client-key", "K")
    async with stack(well_behaved, Setup(auth=auth)) as (running, server):
        assert (await chat(running, headers=SENT)).status == 200
        headers = server.requests[0].headers
        assert headers.pop("content-length") == str(len(server.requests[0].body))
        assert headers.pop("host") == server.url.removeprefix("http://")
        assert "x-latin" in headers
        del headers["x-latin"]
        assert headers == {
            "authorization": f"Bearer {ENGINE_KEY}",
            "accept": "text/event-stream",
            "user-agent": "agent/1",
            "x-session-id": "abc",
            "content-type": "application/octet-stream",
        }


async def test_headers_named_by_any_connection_header_are_not_passed_on() -> None:
    lines = (
        "connection: x-one, x-two",
        "x-one: 1",
        "x-two: 2",
        "x-three: 3",
        "Connection: x-three, keep-alive",
    )
    async with stack(well_behaved) as (running, server), connect(running) as connection:
        await connection.send(whole_request(CHAT, *lines, "x-kept: 4", "X-Kept: 5"))
        assert (await connection.read_response()).status == 200
        passed_on = {
            name: value for name, value in server.requests[0].headers.items() if name.startswith("x-")
        }
        assert passed_on == {"x-kept": "4, 5"}


@pytest.mark.parametrize("stream", [False, True])
async def test_only_allowed_headers_reach_the_client(*, stream: bool) -> None:
    extra = (
        "Connection: keep-alive, x-private\r\nKeep-Alive: timeout=5\r\nX-Private: 1\r\nServer: llama.cpp\r\n"
        "Access-Control-Allow-Origin: http://evil.example\r\nX-Llmstack-Tier: other\r\n"
        "X-Kept: caf\u00e9 \u2014\r\n"
        "Set-Thing: a\r\nSet-Thing: b"
    )

    async def answer(request: IncomingRequest) -> None:
        if stream:
            await request.start_stream(extra)
            await request.chunk(b'data: {"choices":[{"finish_reason":"stop"}]}\n\n')
            await request.end_stream()
        else:
            body = json.dumps(COMPLETION).encode()
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}"
            )
            await request.send(f"{head}\r\n\r\n".encode() + body)

    async with stack(answer) as (running, _):
        reply = await chat(running, chat_request(stream=stream), {"x-request-id": "mine-17"})
        assert reply.status == 200
        passed_on: Mapping[str, str] = {
            name: value
            for name, value in reply.headers.items()
            if name not in {"date", "content-length", "transfer-encoding"}
        }
        assert passed_on == {
            "content-type": "text/event-stream" if stream else "application/json",
            "x-kept": "caf\u00e9 \u2014",
            "set-thing": "b",
            "x-request-id": "mine-17",
            "x-llmstack-tier": "code-ultra",
            "x-llmstack-reason": "short: 1 <= 12000 tokens",
            "x-llmstack-tokens": "1",
        }
        assert ENGINE_KEY not in str(reply)


async def test_logs_contain_no_prompts_and_no_keys(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with stack(well_behaved) as (running, _):
        secret = {"authorization": "Bearer client-key"}
        await chat(running, chat_request("prompt-words"), secret)
        await chat(running, chat_request("prompt-words", stream=True), secret)
        await chat(running, chat_request("prompt-words", model="prompt-words"), secret)
        await chat(running, b'{"messages":"prompt-words"}', secret)
        await request_raw_path(
            running, "POST", "/v1/x%0aINFO%20forged?prompt-words", {"model": "plan", "p": "prompt-words"}
        )
        await running.wait_until_idle()
    assert any(
        "/v1/chat/completions auto -> code-ultra (short: 3 <= 12000 tokens) 200 ok" in x
        for x in caplog.messages
    )
    assert any("POST /v1/chat/completions refused: 404 model_not_found" in x for x in caplog.messages)
    own = [record.getMessage() for record in caplog.records if not record.name.startswith("asyncio")]
    for message in own:
        assert "\n" not in message
        for secret_text in ("prompt-words", "client-key", ENGINE_KEY):
            assert secret_text not in message


async def test_a_bug_fails_one_request_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Buggy(FakeSwapper):
        async def acquire(self, tier: str, session: str = "", **options: Any) -> Any:
            if tier == "plan":
                raise ZeroDivisionError("prompt-words")
            return await super().acquire(tier, session, **options)

    async with router(Buggy()) as running:
        reply = await chat(running, chat_request(model="plan"))
        assert (reply.status, reply.error["code"], reply.error["type"]) == (
            500,
            "internal_error",
            "server_error",
        )
        assert "ZeroDivisionError" in caplog.text
        assert (await request(running, "GET", "/health")).status == 200

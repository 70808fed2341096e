"""The router's own paths, and the tiers that requests are sent to."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from router.clients import chat, chat_request, request, request_raw_path, well_behaved
from router.harness import FAST, OWNER_TOKEN, PLAN, SMART, FakeSwapper, Setup, config, router, stack

from llmstack.router.app import MAX_BODY
from llmstack.serving.errors import TierUnavailableError

OWNER = {"authorization": f"Bearer {OWNER_TOKEN}"}
TIERS = "code-fast, code-smart, code-ultra, plan"

# The router's own paths


async def test_the_router_serves_its_own_pages() -> None:
    async with router(FakeSwapper()) as running:
        root = await request(running, "GET", "/")
        assert root.body.startswith(b"llmstack router: ")
        head = await request(running, "HEAD", "/")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(root.body))
        ini = await request(running, "GET", "/models.ini")
        assert (ini.status, ini.body) == (200, b"; the file\n[code-fast]\n")
        assert ini.headers["content-type"].startswith("text/plain")
        assert json.loads((await request(running, "GET", "/health")).body) == {"status": "ok"}
        schema = json.loads((await request(running, "GET", "/llmstack/openapi.json")).body)
        assert "/llmstack/load/{name}" in schema["paths"]


async def test_models_are_listed_with_their_state() -> None:
    setup = Setup(unavailable={"plan": "plan.gguf is not on disk"})
    async with router(FakeSwapper(), setup) as running:
        document = json.loads((await request(running, "GET", "/v1/models")).body)
        assert document["object"] == "list"
        models = document["data"]
        assert [model["id"] for model in models] == [
            *("auto", "code-fast", "code-smart", "agent", "code-ultra", "plan"),
        ]
        shown = ("object", "owned_by", "context_window", "backend", "channel", "state")
        assert [tuple(model.get(key) for key in shown) for model in models] == [
            ("model", "llmstack", 200_000, "router", "current", "resident"),
            ("model", "llmstack", 131_072, "gguf", "current", "resident"),  # preloaded
            ("model", "llmstack", 65_536, "gguf", "current", "idle"),
            ("model", "llmstack", 65_536, "gguf", "current", "idle"),
            ("model", "llmstack", 200_000, "gguf", "current", "idle"),
            ("model", "llmstack", 131_072, "gguf", "current", "down"),
        ]
        assert models[2]["aliases"] == ["agent"]
        assert models[3]["alias_of"] == "code-smart"
        assert (await request(running, "GET", "/models")).body == (
            await request(running, "GET", "/v1/models")
        ).body


async def test_status_describes_tiers_and_recent_requests() -> None:
    async with stack(well_behaved) as (running, _):
        await chat(running, chat_request("secret words"))
        await running.wait_until_idle()
        status = json.loads((await request(running, "GET", "/llmstack/status")).body)
        assert status["channel"] == "current"
        assert status["in_flight"] == 0
        assert status["preload"] == "code-fast"
        assert [tier["name"] for tier in status["tiers"]] == TIERS.split(", ")
        (record,) = status["recent"]
        assert {key: record[key] for key in ("asked", "tier", "tokens", "status", "outcome", "path")} == {
            "asked": "auto",
            "tier": "code-ultra",
            "tokens": 3,
            "status": 200,
            "outcome": "ok",
            "path": "/v1/chat/completions",
        }
        assert "secret" not in json.dumps(status)


async def test_a_tier_can_be_loaded_and_unloaded() -> None:
    swapper = FakeSwapper()
    async with router(swapper, Setup(unavailable={"plan": "no file"})) as running:

        async def post(path: str) -> tuple[int, Any]:
            reply = await request(running, "POST", path, headers=OWNER)
            return reply.status, json.loads(reply.body)

        assert await post("/llmstack/load/agent") == (200, {"tier": "code-smart", "state": "resident"})
        assert swapper.loaded == ["code-fast", "code-smart"]
        assert await post("/llmstack/unload/code-smart") == (200, {"unloaded": ["code-smart"]})
        assert await post("/llmstack/unload/code-smart") == (200, {"unloaded": []})
        assert await post("/llmstack/unload") == (200, {"unloaded": ["code-fast"]})
        for name in ("nope", "auto"):
            status, body = await post(f"/llmstack/load/{name}")
            assert (status, body["error"]["code"]) == (404, "model_not_found")
            assert body["error"]["message"] == f"no tier is called `{name}`; known are {TIERS}"
        status, body = await post("/llmstack/load/plan")
        assert (status, body["error"]["message"]) == (503, "plan cannot start: no file (fix it)")
        swapper.acquire_error = TierUnavailableError("full", retry_after=9, hint="wait")
        reply = await request(running, "POST", "/llmstack/load/code-fast", headers=OWNER)
        assert (reply.status, reply.headers["retry-after"]) == (503, "9")
        assert (reply.error["message"], reply.error["origin"]) == ("full (wait)", "swapper")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/completions", "POST"),
        ("OPTIONS", "/chat/completions", "POST"),
        ("POST", "/health", "GET"),
        ("PUT", "/v1/models", "GET"),
        ("POST", "/models.ini", "GET"),
        ("POST", "/llmstack/status", "GET"),
        ("GET", "/llmstack/load/code-fast", "POST"),
    ],
)
async def test_a_wrong_method_is_a_405(method: str, path: str, allow: str) -> None:
    async with router(FakeSwapper()) as running:
        reply = await request(running, method, path)
        assert (reply.status, reply.headers["allow"]) == (405, allow)
        assert reply.error["type"] == "invalid_request_error"
        assert reply.error["code"] == "method_not_allowed"
        assert reply.error["message"] == f"{path} takes {allow}, not {method}"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/nothing", None),
        ("POST", "/nothing", {"model": "auto"}),
        ("POST", "/nothing", {"x": 1}),
        ("POST", "/nothing", b"no json"),
        ("GET", "/llmstack", None),
        ("GET", "/llmstack/nothing", None),
        ("GET", "/llmstack/status/", None),
        ("GET", "/llmstack/../models.ini", None),
        ("GET", "/llmstack/%2e%2e/models.ini", None),
        ("GET", "/v1/models/", None),
        ("POST", "//v1/chat/completions", {"model": "auto", "messages": []}),
        ("POST", "/v1/chat/completions/", {"messages": []}),
        ("POST", "/upstream/", {}),
        ("POST", "/upstream/auto/v1/chat/completions", {}),
        ("POST", "/upstream/nope/v1/chat/completions", {}),
        ("POST", "/upstream/%2e%2e/x", {}),
        ("GET", "/x?model=", None),
        ("GET", "/x?" + "a&" * 2000, None),
    ],
)
async def test_an_unknown_path_is_a_404(method: str, path: str, body: Any) -> None:
    async with stack(well_behaved) as (running, server):
        reply = await request_raw_path(running, method, path, body)
        assert reply[0] == 404
        assert b"known are" in reply[1] or b"expected a path of this router" in reply[1]
        assert server.requests == []


# Forwarded requests


@pytest.mark.parametrize(
    ("path", "body", "line", "expected_body", "reason"),
    [
        (
            "/v1/chat/completions",
            chat_request(),
            "/v1/chat/completions",
            chat_request(model="code-ultra"),
            "short: 1 <= 12000 tokens",
        ),
        (
            "/chat/completions?a=b%20c",
            chat_request(),
            "/chat/completions?a=b%20c",
            chat_request(model="code-ultra"),
            None,
        ),
        ("/v1/completions", {"prompt": "x"}, "/v1/completions", {"prompt": "x", "model": "code-ultra"}, None),
        (
            "/v1/chat/completions",
            chat_request(model="agent"),
            None,
            chat_request(model="code-smart"),
            "named: alias agent",
        ),
        ("/v1/chat/completions", chat_request(model="plan"), None, chat_request(model="plan"), "named"),
        (
            "/v1/embeddings",
            {"model": "agent", "input": "x"},
            "/v1/embeddings",
            {"model": "code-smart", "input": "x"},
            None,
        ),
        ("//v1/embeddings", {"model": "plan"}, "//v1/embeddings", {"model": "plan"}, "named"),
        ("/a%2Fb/../c", {"model": "plan"}, "/a%2Fb/../c", {"model": "plan"}, "named"),
        ("/props?model=agent", None, "/props?model=agent", None, "named: alias agent"),
        (
            "/upstream/agent/lora-adapters?x=save",
            {"model": "mine"},
            "/lora-adapters?x=save",
            {"model": "mine"},
            None,
        ),
        ("/upstream/code%2Dfast/x%2Fy?q=/upstream/", {}, "/x%2Fy?q=/upstream/", {}, "named"),
        ("/upstream/plan", {}, "/", {}, "named"),
        ("/upstream/plan?x=1", {}, "/?x=1", {}, "named"),
    ],
)
async def test_requests_reach_the_expected_tier_and_path(
    path: str, body: Any, line: str | None, expected_body: Any, reason: str | None
) -> None:
    async with stack(well_behaved) as (running, server):
        status, body = await request_raw_path(running, "POST", path, body)
        assert status == 200
        (request,) = server.requests
        assert request.line == f"POST {line or path} HTTP/1.1"
        assert json.loads(request.body or b"null") == expected_body
        if reason is not None:
            assert f"x-llmstack-reason: {reason}\r\n".encode() in body


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        (b"", 400, "invalid_request", "the body is not JSON"),
        (b"{", 400, "invalid_request", "the body is not JSON"),
        (b'{"messages":5}', 400, "invalid_request", "Expected `array`, got `int` - at `$.messages`"),
        (
            b'{"x":' + b"[" * 9000 + b"]" * 9000 + b',"messages":[]}',
            400,
            "invalid_request",
            "nested too deeply",
        ),
        (chat_request(model="gpt-5"), 404, "model_not_found", f"known are auto, {TIERS}, agent"),
        (chat_request(model="x" * 5000), 404, "model_not_found", "known are"),
        (chat_request("x" * 900_000), 400, "context_length_exceeded", "exceeds the available context size"),
        (chat_request(max_tokens=10**30), 400, "context_length_exceeded", "the largest window is 200000"),
    ],
)
async def test_bad_requests_are_refused_with_a_reason(body: Any, status: int, code: str, text: str) -> None:
    async with stack(well_behaved) as (running, server):
        reply = await request(running, "POST", "/v1/chat/completions", body)
        assert (reply.status, reply.error["code"], reply.error["type"]) == (
            status,
            code,
            "invalid_request_error",
        )
        assert text in reply.error["message"]
        assert len(reply.error["message"]) < 500
        assert reply.error["origin"] == "router"
        assert server.requests == []


@pytest.mark.parametrize("has_length", [True, False])
async def test_a_body_over_the_limit_is_a_413(*, has_length: bool) -> None:
    async with router(FakeSwapper()) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        length = f"content-length: {MAX_BODY + 2**20}" if has_length else "transfer-encoding: chunked"
        writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{length}\r\n\r\n".encode())
        part = b"x" * 2**20
        for _ in range(MAX_BODY // 2**20 + 1):
            writer.write(part if has_length else b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        if not has_length:
            writer.write(b"0\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"larger than 64 MB" in await reader.readuntil(b"}")
        writer.close()
        await writer.wait_closed()


async def test_a_tier_that_cannot_start_says_why() -> None:
    async with router(
        FakeSwapper(), Setup(unavailable={"code-ultra": "no key", "plan": "no file"})
    ) as running:
        reply = await chat(running, chat_request(model="plan"))
        assert (reply.status, reply.error["code"]) == (503, "model_unavailable")
        assert reply.error["message"] == "plan cannot start: no file (fix it)"


async def test_without_any_usable_tier_every_reason_is_named() -> None:
    setup = Setup(config(FAST, SMART, PLAN), dict.fromkeys(("code-fast", "code-smart", "plan"), "gone"))
    async with router(FakeSwapper(), setup) as running:
        reply = await chat(running)
        assert (reply.status, reply.error["code"]) == (503, "no_tier")
        assert "code-fast: gone (fix it)" in reply.error["message"]

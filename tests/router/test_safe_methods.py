"""What a web page can send without being asked for permission changes nothing."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from router.clients import chat, chat_request, request, request_raw_path, well_behaved
from router.harness import FAST, IncomingRequest, Setup, config, stack, wait_until

from llmstack.config.model import BackendKind, McpModel
from llmstack.paths import Project
from llmstack.process.worker import Worker
from llmstack.router.auth import RequestAuth
from llmstack.serving.base import ModelRequest
from llmstack.serving.errors import RequestFailedError
from llmstack.serving.remote.mcp import McpBackend

if TYPE_CHECKING:
    from pathlib import Path

READING = ("GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
PATHS = ("/upstream/code-smart/props", "/upstream/agent/", "/props?model=code-smart", "/x/y?model=agent")
TUNNEL = Setup(auth=RequestAuth("127.0.0.1", ("tunnel.example",), "", "LLMSTACK_API_KEY"))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "unknown", "none, cross-site"])
@pytest.mark.parametrize("path", [*PATHS, "/", "/health", "/models.ini", "/llmstack/status", "/metrics"])
async def test_another_page_that_does_not_name_its_origin_is_refused(site: str, path: str) -> None:
    async with stack(well_behaved) as (running, server):
        for method in ("GET", "POST", "HEAD"):
            reply = await request(running, method, path, headers={"sec-fetch-site": site})
            assert reply.status == 403
        assert server.requests == []
        assert running.swapper.granted == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "none"}, 200),  # typed into the address bar
        ({"sec-fetch-site": "same-origin"}, 200),  # the model server's own page below /upstream/
        ({}, 200),  # no browser
        ({"sec-fetch-site": "cross-site", "origin": "https://tunnel.example"}, 200),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:3000"}, 200),
        ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, 403),
    ],
)
async def test_pages_that_may_use_the_router_still_can(headers: dict[str, str], status: int) -> None:
    async with stack(well_behaved, TUNNEL) as (running, _):
        assert (await request(running, "GET", "/llmstack/status", headers=headers)).status == status
        assert (await chat(running, headers=headers)).status == status


@pytest.mark.parametrize("method", READING)
@pytest.mark.parametrize("path", PATHS)
async def test_reading_loads_no_model(method: str, path: str) -> None:
    async with stack(well_behaved) as (running, server):
        await wait_until(lambda: running.swapper.loaded == ["code-fast"], "the fast tier is loaded")
        status, response = await request_raw_path(running, method, path, None)
        assert status == 409
        assert method == "HEAD" or b"not_loaded" in response
        assert server.requests == []
        assert (running.swapper.granted, running.swapper.loaded) == (0, ["code-fast"])


async def test_a_loaded_model_can_be_read() -> None:
    async with stack(well_behaved) as (running, server):
        for path in ("/upstream/code-fast/props", "/props?model=code-fast"):
            assert (await request(running, "GET", path)).status == 200
        assert [incoming.line.split()[1] for incoming in server.requests] == [
            "/props",
            "/props?model=code-fast",
        ]


async def test_a_failed_read_does_not_pause_the_tier() -> None:
    async def fail(incoming: IncomingRequest) -> None:
        await incoming.respond(b"{}", status="500 Internal Server Error")

    async with stack(fail) as (running, _):
        assert (await request(running, "GET", "/upstream/code-fast/props")).status == 500
        assert running.app.service.cooldowns.cooling() == {}


@pytest.mark.parametrize(
    "path",
    [
        "/slots/0?action=save&model=plan",
        "/upstream/plan/slots/0?action=restore",
        "/upstream/plan/slots/0?action=erase",
        "/upstream/plan/slots/0",
        "/upstream/plan//slots/0?action=save",
        "/upstream/plan/%73lots/0?action=save",
        "/upstream/plan/%2573lots%2f0?action=save",
        "/upstream/plan/./slots/0?action=save",
        "/upstream/plan/x/..//slots/0?action=save",
        "/upstream/pl%61n/slots/0?action=%73ave",
    ],
)
async def test_no_client_touches_the_slots_of_a_model(path: str) -> None:
    async with stack(well_behaved) as (running, server):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            status, response = await request_raw_path(
                running, method, path, {"model": "plan", "filename": "other-conversation.bin"}
            )
            assert status == 403
            assert b"the router alone saves, restores and erases the slots" in response
        assert server.requests == []


async def test_the_tool_of_an_mcp_server_is_not_called_by_reading(tmp_path: Path) -> None:
    model = McpModel(command=(sys.executable, "-c", "open('ran', 'w')"), tool="t")
    tier = replace(FAST, name="tool", backend=BackendKind.MCP, model=model)
    project = Project.at(tmp_path, {})
    backend = McpBackend(project, config(tier), {}, dict(os.environ))
    try:
        lease = await backend.acquire("tool")
        body = json.dumps(chat_request(model="tool")).encode()
        with pytest.raises(RequestFailedError, match="serves no GET /v1/chat/completions"):
            await lease.send(
                ModelRequest(
                    method="GET",
                    target="/v1/chat/completions",
                    headers={},
                    body=body,
                    model="tool",
                    rewrites_body=False,
                    has_slot=False,
                    format_error=lambda _: b"",
                    worker=Worker({}),
                )
            )
        assert backend.state("tool").state == "idle"
    finally:
        await backend.close()

"""MCP servers that never answer, print without an end, or send huge messages."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import psutil
import pytest
from router.clients import chat, chat_request
from router.harness import wait_until
from router.remote_tiers import router_with_tiers
from support.providers import KEY

from llmstack import providers
from llmstack.config.model import BackendKind, McpModel, Role, Tier
from llmstack.process.output_log import LOG_BACKUPS, LOG_BYTES
from llmstack.providers.base import PromptRequest
from llmstack.providers.mcp import server_process, stdio
from llmstack.providers.mcp.source import McpSource

SCRIPT = str(Path(__file__).parents[1] / "support" / "mcp_model.py")


def source(kind: str) -> McpSource:
    return McpSource((sys.executable, SCRIPT, kind), "complete", env=os.environ, timeout_s=20)


def children() -> list[int]:
    """Return the processes of servers that have not ended."""
    pids = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if SCRIPT in child.cmdline():
                pids.append(child.pid)
    return pids


@pytest.mark.parametrize("kind", ["silent", "pinging"])
async def test_the_whole_start_has_one_deadline(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "START_TIMEOUT_S", 1.0)
    monkeypatch.setattr(stdio, "GRACE_S", 0.1)
    tool = source(kind)
    async with asyncio.timeout(15):
        with pytest.raises(providers.TimedOutError, match="did not start in 1 s"):
            await tool.answer(PromptRequest.from_prompt("a"))
    assert not tool.is_running
    assert not children()


async def test_a_list_of_tools_without_an_end_is_left() -> None:
    async with asyncio.timeout(15):
        with pytest.raises(providers.RejectedError, match=r"it has other(, other){19}, …$"):
            await source("pages").answer(PromptRequest.from_prompt("a"))
    assert not children()


async def test_a_caller_that_leaves_during_the_start_ends_the_server() -> None:
    tool = source("silent")
    call = asyncio.create_task(tool.answer(PromptRequest.from_prompt("a")))
    async with asyncio.timeout(15):
        await wait_until(lambda: bool(children()), "the server runs")
        call.cancel()
        await asyncio.wait([call])
    assert call.cancelled()
    assert not children()


async def test_a_server_that_ignores_its_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "GRACE_S", 0.1)
    tool = source("stubborn")
    assert (await tool.answer(PromptRequest.from_prompt("a"))).output.endswith("|a")
    async with asyncio.timeout(10):
        await tool.close()
    assert not children()


async def test_a_message_without_an_end_ends_the_session_and_the_next_call_starts_a_new_one() -> None:
    tool = source("plain")
    with pytest.raises(providers.MalformedResponseError, match="sent a message of more than 4 MB"):
        await tool.answer(PromptRequest.from_prompt("huge"))
    assert not children()
    assert (await tool.answer(PromptRequest.from_prompt("a"))).output.endswith("|a")
    await tool.close()


async def test_what_a_server_prints_goes_to_its_own_bounded_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = (sys.executable, SCRIPT, "noisy")
    tool = Tier("tool", BackendKind.MCP, McpModel(command, "complete"), 64_000, role=Role.FAST)
    async with router_with_tiers(tool, work_dir=tmp_path) as running:
        reply = await chat(running)
        assert (reply.status, b"|hello" in reply.body) == (200, True), reply.body
        crashed = await chat(running, chat_request("crash"))
        assert "the weights are gone" in crashed.error["message"]
    logs = list((tmp_path / ".llmstack" / "logs").glob("tool.log*"))
    assert sum(log.stat().st_size for log in logs) <= (LOG_BACKUPS + 1) * LOG_BYTES
    text = "".join(log.read_text() for log in logs)
    assert "bytes are left out here" in text
    assert "no message" in text
    assert "no message" not in caplog.text
    assert "JSONRPC" not in caplog.text


async def test_a_key_in_a_successful_answer_is_masked() -> None:
    env = {**os.environ, "SOME_API_KEY": KEY}
    tool = McpSource((sys.executable, SCRIPT, "plain"), "complete", env=env, timeout_s=20)
    assert (await tool.answer(PromptRequest.from_prompt(f"a {KEY}"))).output.endswith("|a …")
    await tool.close()

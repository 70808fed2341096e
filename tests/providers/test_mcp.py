"""Models behind stdio MCP servers, and our own server, with real processes and the official SDK."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp import Client, StdioServerParameters
from support.providers import KEY, provider

from llmstack import providers
from llmstack.providers.base import PromptRequest
from llmstack.providers.mcp.source import McpSource
from llmstack.providers.model_api import Model

SCRIPT = str(Path(__file__).parents[1] / "support" / "mcp_model.py")


def source(kind: str, **options: Any) -> McpSource:
    """Return a model behind `support/mcp_model.py KIND`."""
    env = {**os.environ, "SOME_API_KEY": KEY}
    return McpSource((sys.executable, SCRIPT, kind), "complete", env=env, **{"timeout_s": 20, **options})


async def test_calls_share_a_process_that_close_ends() -> None:
    tool = source("plain")
    first, second = await asyncio.gather(
        tool.answer(PromptRequest.from_prompt("a")), tool.answer(PromptRequest.from_prompt("b", system="S"))
    )
    pid, words = first.output.split("|", 1)
    assert (words, second.output) == ("a", f"{pid}|S\n\nb")
    assert (first.provider, tool.is_running) == ("mcp", True)
    await tool.close()
    assert not psutil.pid_exists(int(pid))
    assert not tool.is_running


async def test_a_tool_gets_the_arguments_that_it_has() -> None:
    tool = source("rich", model="m")
    answer = await tool.answer(
        PromptRequest.from_prompt("p", system="s", max_tokens=9, temperature=0.5, reasoning_effort="low")
    )
    assert answer.output.split("|")[1:] == ["p", "s", "9", "0.5", "m"]
    conversation = [{"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    answer = await tool.answer(PromptRequest.from_prompt(conversation))
    assert answer.output.split("|")[1] == "User: a\n\nAssistant: b\n\nUser: c"
    await tool.close()


async def test_a_crash_quotes_the_log_and_the_next_call_starts_a_new_server() -> None:
    tool = source("plain")
    before = (await tool.answer(PromptRequest.from_prompt("a"))).output
    with pytest.raises(providers.MalformedResponseError) as raised:
        await tool.answer(PromptRequest.from_prompt("crash"))
    assert "the weights are gone, and my key is …" in raised.value.message
    assert KEY not in raised.value.message
    after = (await tool.answer(PromptRequest.from_prompt("a"))).output
    assert before != after
    psutil.Process(int(after.split("|")[0])).kill()  # between calls
    assert (await tool.answer(PromptRequest.from_prompt("a"))).output not in {before, after}
    await tool.close()


async def test_each_kind_of_failure_has_its_error() -> None:
    tool = source("plain")
    with pytest.raises(providers.RejectedError, match="no weights"):
        await tool.answer(PromptRequest.from_prompt("fail"))
    await tool.close()
    slow = source("plain", timeout_s=2)
    with pytest.raises(providers.TimedOutError, match=r"did not answer within 2 s"):
        await slow.answer(PromptRequest.from_prompt("slow"))
    await slow.close()
    odd = source("odd")
    with pytest.raises(providers.RejectedError, match="takes left, right: none of it is a prompt"):
        await odd.answer(PromptRequest.from_prompt("a"))
    await odd.close()
    with pytest.raises(providers.MalformedResponseError, match=r"did not start:\nno such model"):
        await source("nothing").answer(PromptRequest.from_prompt("a"))
    env = dict(os.environ)
    with pytest.raises(providers.RejectedError, match="has no tool `other`; it has complete"):
        await McpSource((sys.executable, SCRIPT, "plain"), "other", env=env).answer(
            PromptRequest.from_prompt("a")
        )
    with pytest.raises(
        providers.ProviderUnreachableError, match="cannot run the MCP server `/nonexistent/x y`"
    ):
        await McpSource(("/nonexistent/x", "y"), "t", env=env).answer(PromptRequest.from_prompt("a"))


def test_the_server_runs_until_the_context_ends_or_for_one_call() -> None:
    with Model(source("plain")) as model:
        first = model.call("a").output
        assert (model.call("a").output, list(model.stream("a"))) == (first, [first])
    assert not psutil.pid_exists(int(first.split("|")[0]))
    assert Model(source("plain")).call("a").output != first


async def test_the_mcp_providers_run_our_own_server(tmp_path: Path) -> None:
    with provider("anthropic") as fake:
        env = {**os.environ, "ANTHROPIC_BASE_URL": fake.url, "ANTHROPIC_API_KEY": KEY}
        async with providers.model("anthropic_mcp/opus", env=env, config_dir=tmp_path) as model:
            result = await model.acall("hello", max_tokens=9, system="S")
            with pytest.raises(providers.RejectedError) as raised:
                await model.acall("error 401")
    assert result == providers.Result(
        "You said: hello.", "claude-opus-4-6", "anthropic_mcp", providers.TokensUsed(30, 7), "stop"
    )
    assert fake.requests[0]["max_tokens"] == 9
    assert fake.requests[0]["system"] == [{"type": "text", "text": "S"}]
    assert KEY not in str(raised.value)


async def test_keys_are_in_neither_the_command_line_nor_the_repr() -> None:
    tool = source("plain")
    pid = int((await tool.answer(PromptRequest.from_prompt("a"))).output.split("|")[0])
    assert KEY not in " ".join(psutil.Process(pid).cmdline())
    assert KEY not in repr(tool)
    await tool.close()


async def test_our_server_works_with_the_sdks_client(tmp_path: Path) -> None:
    with provider("local") as fake:
        env = {**os.environ, "LOCAL_LLM_BASE_URL": fake.url}
        parameters = StdioServerParameters(
            command=sys.executable, args=["-m", "llmstack", "mcp"], env=env, cwd=tmp_path
        )
        async with Client(parameters) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert {"provider_anthropic", "provider_ollama", "provider_mistral"} <= tools.keys()
            choice = tools["provider_anthropic"].input_schema["properties"]["model"]["description"]
            assert "haiku, opus, sonnet" in choice
            messages = [{"role": "user", "content": "hi"}]
            arguments = {
                "model": "q",
                "messages": messages,
                "temperature": 0.5,
                "system": None,
                "prompt": None,
            }
            answer = await client.call_tool("provider_ollama", arguments)
            assert answer.structured_content == {
                "output": "You said: hi.",
                "model": "q",
                "provider": "ollama",
                "tokens_used": {"input": 30, "output": 7},
                "stop_reason": "stop",
            }
            assert fake.last["temperature"] == 0.5
            for tool, wrong_arguments, message in (
                ("provider_ollama", {"prompt": "hi"}, "`ollama` has no default model"),
                ("provider_ollama", {"model": "q"}, "expected `prompt` or `messages`"),
                ("provider_ollama", {"prompt": 5}, "got `int` - at `$.prompt`"),
                ("provider_ollama", {"prompt": "hi", "max_tokens": 0}, "at `$.max_tokens`"),
                (
                    "provider_ollama",
                    {"messages": ["hi"]},
                    "Expected `object`, got `str` - at `$.messages[0]`",
                ),
                ("provider_openai", {"model": "q", "prompt": "hi"}, "OPENAI_API_KEY is not set"),
                ("nothing", {}, "no tool is called `nothing`"),
            ):
                failed = await client.call_tool(tool, wrong_arguments)
                assert failed.is_error
                assert message in failed.model_dump_json()

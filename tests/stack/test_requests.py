"""Requests to a running stack: real router, real llama.cpp, real clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.project import CliProject

pytestmark = pytest.mark.engine

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ENDLESS = {"max_tokens": 12_000, "ignore_eos": True, "stream": True}


@pytest.fixture
def sdk(shared: CliProject) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="anything", max_retries=0) as client:
        yield client


def tier_status(project: CliProject, name: str) -> dict[str, Any]:
    tiers = httpx.get(f"{project.url}/llmstack/status").json()["tiers"]
    return next(tier for tier in tiers if tier["name"] == name)


def test_openai_sdk_lists_models(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == [
        "auto",
        "code-fast",
        "code-smart",
        "code-ultra",
        "plan",
        "talker",
    ]


def test_openai_sdk_gets_an_answer(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == "[code-ultra] You said: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_openai_sdk_streams_an_answer_with_usage(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "bit by bit"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "[code-ultra] You said: bit by bit"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_openai_sdk_gets_tool_calls(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": "call get_weather for Paris"}], tools=[TOOL]
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    assert "Paris" in json.loads(calls[0].function.arguments)["city"]


def test_openai_sdk_completes_text(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model="auto", prompt="def f(x):", max_tokens=8)
    assert answer.model == "code-ultra"
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8


def test_openai_sdk_raises_its_own_error_classes(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no model is called `gpt-9`"):
        sdk.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hello"}])
    with pytest.raises(openai.BadRequestError, match="exceeds the available context size") as caught:
        sdk.chat.completions.create(model="auto", messages=[{"role": "user", "content": "word " * 40_000}])
    assert caught.value.code == "context_length_exceeded"


def test_a_model_killed_during_a_stream_ends_it_with_an_error_event(shared: CliProject) -> None:
    body = {"model": "talker", "messages": [{"role": "user", "content": "talk"}], **ENDLESS}
    with httpx.stream("POST", f"{shared.url}/v1/chat/completions", json=body, timeout=60) as response:
        chunks = response.iter_bytes()
        text = next(chunks)
        os.kill(tier_status(shared, "talker")["pid"], signal.SIGKILL)
        text += b"".join(chunks)
    last = text.rstrip().rsplit(b"\n\n", 1)[-1]
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error["origin"] == "engine"
    assert error["message"].startswith("the model server of talker ended (killed by signal 9)")
    assert b"[DONE]" not in text
    assert shared.ask("again", "talker", max_tokens=5).status_code == 200  # it is started again


def test_a_client_that_disconnects_during_a_stream_frees_the_model(shared: CliProject) -> None:
    body = {"model": "talker", "messages": [{"role": "user", "content": "talk"}], **ENDLESS}
    with httpx.stream("POST", f"{shared.url}/v1/chat/completions", json=body, timeout=60) as response:
        chunks = response.iter_bytes()
        next(chunks)
        assert tier_status(shared, "talker")["leases"] == 1
    wait_until(lambda: tier_status(shared, "talker")["leases"] == 0, timeout=5)
    recent = httpx.get(f"{shared.url}/llmstack/status").json()["recent"]
    assert recent[-1]["outcome"] == "client_gone"
    # The engine has stopped generating: every slot is free for the next request at once.
    assert shared.ask("hello", "talker", max_tokens=2).status_code == 200


def test_a_stopping_router_ends_streams_with_an_error_event(project: CliProject) -> None:
    project.write()
    project.add_talker()
    project.run("install", "--trust").check()
    project.start()
    body = {"model": "talker", "messages": [{"role": "user", "content": "talk"}], **ENDLESS}
    with httpx.stream("POST", f"{project.url}/v1/chat/completions", json=body, timeout=60) as response:
        chunks = response.iter_bytes()
        next(chunks)
        stopping = project.popen("stop")
        text = b"".join(chunks)
    assert b"the router is stopping" in text.rstrip().rsplit(b"\n\n", 1)[-1]
    stopping.communicate(timeout=30)
    assert stopping.returncode == 0


def test_two_hundred_concurrent_requests_succeed_while_models_are_swapped(project: CliProject) -> None:
    """The memory budget holds two of four models. Every request is answered by the tier it names."""
    project.install(defaults="memory_gb = 0.2")
    project.start()
    tiers = ["code-fast", "code-smart", "code-ultra", "plan"]

    async def ask(http: httpx.AsyncClient, number: int) -> tuple[int, str]:
        tier = tiers[number % len(tiers)]
        message = {"role": "user", "content": f"number {number}"}
        answer = await http.post(
            "/v1/chat/completions", json={"model": tier, "messages": [message], "stream": number % 3 == 0}
        )
        return answer.status_code, answer.text

    async def ask_all() -> list[tuple[int, str]]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=project.url, timeout=120, limits=limits) as http:
            return await asyncio.gather(*(ask(http, number) for number in range(200)))

    answers = asyncio.run(ask_all())
    assert {status for status, _ in answers} == {200}
    for number, (_, text) in enumerate(answers):
        answer = text if number % 3 else "".join(_deltas(text))
        assert f"[{tiers[number % 4]}] You said: number {number}" in answer
    loaded = [tier for tier in project.status()["tiers"] if tier["state"] == "resident"]
    assert 1 <= len(loaded) <= 2


def _deltas(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                yield choice["delta"].get("content") or ""


def test_idle_connections_do_not_block_requests(shared: CliProject) -> None:
    silent = [socket.create_connection(("127.0.0.1", shared.port)) for _ in range(50)]
    try:
        assert shared.answer("hello") == "[code-ultra] You said: hello"
    finally:
        for connection in silent:
            connection.close()

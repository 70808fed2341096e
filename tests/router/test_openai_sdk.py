"""The `openai` package as a client."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import openai
import pytest
from openai import OpenAI
from router.clients import event, well_behaved
from router.harness import SHORT_TIMEOUTS, IncomingRequest, RunningRouter, Setup, run_in_thread, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from openai.types.chat import ChatCompletionUserMessageParam

HELLO: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}


@contextlib.contextmanager
def connected_client(
    script: Callable[[IncomingRequest], Awaitable[None]],
) -> Iterator[tuple[OpenAI, RunningRouter]]:
    @contextlib.asynccontextmanager
    async def only_router() -> AsyncIterator[RunningRouter]:
        async with stack(script, Setup(timeouts=SHORT_TIMEOUTS)) as (running, _):
            yield running

    with (
        run_in_thread(only_router) as running,
        OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0, timeout=10) as client,
    ):
        yield client, running


def test_the_sdk_lists_models() -> None:
    with connected_client(well_behaved) as (client, _):
        assert [model.id for model in client.models.list()][:2] == ["auto", "code-fast"]


def test_the_sdk_reads_a_chat_response() -> None:
    with connected_client(well_behaved) as (client, _):
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=[HELLO])
        assert raw.headers["x-llmstack-tier"] == "code-ultra"
        answer = raw.parse()
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("hi", "stop")


def test_the_sdk_reads_a_stream_with_usage() -> None:
    with connected_client(well_behaved) as (client, _):
        stream = client.chat.completions.create(
            model="auto", messages=[HELLO], stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "hello"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 5


def test_the_sdk_ignores_comments_sent_while_a_model_loads() -> None:
    async def slow(request: IncomingRequest) -> None:
        await _pause(SHORT_TIMEOUTS.quiet_s * 3)
        await well_behaved(request)

    with connected_client(slow) as (client, _):
        stream = client.chat.completions.create(model="auto", messages=[HELLO], stream=True)
        assert [chunk.choices[0].finish_reason for chunk in stream if chunk.choices][-1] == "stop"


async def _pause(seconds: float) -> None:
    import asyncio  # noqa: PLC0415 - the only use

    await asyncio.sleep(seconds)


async def cut(request: IncomingRequest) -> None:
    await request.start_stream()
    await request.chunk(event("half"))
    await request.end_stream()


async def done_without_reason(request: IncomingRequest) -> None:
    await request.start_stream()
    await request.chunk(event("half") + b"data: [DONE]\n\n")
    await request.end_stream()


async def error_event(request: IncomingRequest) -> None:
    await request.start_stream()
    await request.chunk(event("half") + b'data: {"error":{"message":"ended in mid-stream"}}\n\n')
    await request.end_stream()


@pytest.mark.parametrize("script", [cut, done_without_reason, error_event])
def test_the_sdk_raises_if_a_stream_fails(script: Callable[[IncomingRequest], Awaitable[None]]) -> None:
    with connected_client(script) as (client, _):
        stream = client.chat.completions.create(model="auto", messages=[HELLO], stream=True)
        with pytest.raises(openai.APIError, match=r"ended .*in mid-stream"):
            list(stream)


def test_the_sdk_raises_the_expected_errors() -> None:
    with connected_client(well_behaved) as (client, _):
        with pytest.raises(openai.NotFoundError, match="known are auto, code-fast"):
            client.chat.completions.create(model="gpt-5", messages=[HELLO])
        with pytest.raises(openai.BadRequestError) as raised:
            client.chat.completions.create(model="auto", messages=[HELLO], max_tokens=10**7)
        assert raised.value.code == "context_length_exceeded"

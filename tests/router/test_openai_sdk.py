"""The `openai` package as a client."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import openai
import pytest
from openai import OpenAI
from router.clients import event, well_behaved
from router.harness import FAST_WAITS, Asked, Running, Setup, in_thread, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from openai.types.chat import ChatCompletionUserMessageParam

HELLO: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}


@contextlib.contextmanager
def client_of(script: Callable[[Asked], Awaitable[None]]) -> Iterator[tuple[OpenAI, Running]]:
    @contextlib.asynccontextmanager
    async def only_router() -> AsyncIterator[Running]:
        async with stack(script, Setup(timeouts=FAST_WAITS)) as (running, _):
            yield running

    with (
        in_thread(only_router) as running,
        OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0, timeout=10) as client,
    ):
        yield client, running


def test_models() -> None:
    with client_of(well_behaved) as (client, _):
        assert [model.id for model in client.models.list()][:2] == ["auto", "code-fast"]


def test_chat() -> None:
    with client_of(well_behaved) as (client, _):
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=[HELLO])
        assert raw.headers["x-llmstack-tier"] == "code-ultra"
        answer = raw.parse()
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("hi", "stop")


def test_stream_with_usage() -> None:
    with client_of(well_behaved) as (client, _):
        stream = client.chat.completions.create(
            model="auto", messages=[HELLO], stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "hello"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 5


def test_comments_while_loading_are_no_trouble() -> None:
    async def slow(asked: Asked) -> None:
        await _pause(FAST_WAITS.quiet_s * 3)
        await well_behaved(asked)

    with client_of(slow) as (client, _):
        stream = client.chat.completions.create(model="auto", messages=[HELLO], stream=True)
        assert [chunk.choices[0].finish_reason for chunk in stream if chunk.choices][-1] == "stop"


async def _pause(seconds: float) -> None:
    import asyncio  # noqa: PLC0415 - the only use

    await asyncio.sleep(seconds)


async def cut(asked: Asked) -> None:
    await asked.start_stream()
    await asked.chunk(event("half"))
    await asked.end_stream()


async def done_without_reason(asked: Asked) -> None:
    await asked.start_stream()
    await asked.chunk(event("half") + b"data: [DONE]\n\n")
    await asked.end_stream()


async def error_event(asked: Asked) -> None:
    await asked.start_stream()
    await asked.chunk(event("half") + b'data: {"error":{"message":"ended in mid-stream"}}\n\n')
    await asked.end_stream()


@pytest.mark.parametrize("script", [cut, done_without_reason, error_event])
def test_a_stream_that_fails_raises(script: Callable[[Asked], Awaitable[None]]) -> None:
    with client_of(script) as (client, _):
        stream = client.chat.completions.create(model="auto", messages=[HELLO], stream=True)
        with pytest.raises(openai.APIError, match=r"ended .*in mid-stream"):
            list(stream)


def test_errors_have_their_types() -> None:
    with client_of(well_behaved) as (client, _):
        with pytest.raises(openai.NotFoundError, match="known are auto, code-fast"):
            client.chat.completions.create(model="gpt-5", messages=[HELLO])
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="auto", messages=[HELLO], max_tokens=10**7)
        assert caught.value.code == "context_length_exceeded"

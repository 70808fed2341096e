"""Every API's own client against a model server that fails at every phase: an answer or an error, no less."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from router.clients import COMPLETION, DONE, event
from router.harness import Asked, Running, stack, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ASK: Any = [{"role": "user", "content": "hello"}]
HELLO = "hello"


# What each API's client makes of a request: the text, once it was told that this is all


async def chat(url: str, *, stream: bool) -> str:
    async with _openai(url) as client:
        made: Any = await client.chat.completions.create(model="auto", messages=ASK, stream=stream)
        if not stream:
            return str(made.choices[0].message.content)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in made if chunk.choices])


async def completion(url: str, *, stream: bool) -> str:
    async with _openai(url) as client:
        made: Any = await client.completions.create(model="auto", prompt="x", stream=stream)
        if not stream:
            return str(made.choices[0].text)
        return "".join([chunk.choices[0].text async for chunk in made if chunk.choices])


async def responses(url: str, *, stream: bool) -> str:
    async with _openai(url) as client:
        made: Any = await client.responses.create(model="auto", input="x", stream=stream)
        if not stream:
            return str(made.output_text)
        return "".join([part.delta async for part in made if part.type == "response.output_text.delta"])


async def messages(url: str, *, stream: bool) -> str:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0, timeout=10) as client:
        made: Any = await client.messages.create(model="auto", messages=ASK, max_tokens=9, stream=stream)
        if not stream:
            return str(made.content[0].text)
        return "".join([part.delta.text async for part in made if part.type == "content_block_delta"])


async def embeddings(url: str, *, stream: bool) -> str:
    assert not stream
    async with _openai(url) as client:
        made = await client.embeddings.create(model="code-fast", input="x", encoding_format="float")
        return HELLO if made.data[0].embedding == [0.5] else ""


@contextlib.asynccontextmanager
async def _openai(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=10) as client:
        yield client


def named(**data: Any) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


@dataclass(frozen=True)
class Api:
    """One API: its client, and what a server that works says to it."""

    ask: Callable[..., Awaitable[str]]
    whole: dict[str, Any]
    events: tuple[bytes, ...] = ()


def text(words: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": words, "finish_reason": finish}
    return (
        b"data: "
        + json.dumps({"id": "c", "object": "text_completion", "choices": [choice]}).encode()
        + b"\n\n"
    )


OUTPUT = [
    {
        "type": "message",
        "id": "m",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": HELLO, "annotations": []}],
    }
]
RESPONSE = {"id": "r", "object": "response", "created_at": 1, "status": "completed", "output": OUTPUT}
MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "x",
    "stop_reason": "end_turn",
    "content": [{"type": "text", "text": HELLO}],
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
BEGUN = {**MESSAGE, "content": [], "stop_reason": None}


def said(words: str) -> bytes:
    return named(type="content_block_delta", index=0, delta={"type": "text_delta", "text": words})


def delta(words: str) -> bytes:
    return named(type="response.output_text.delta", item_id="m", delta=words, content_index=0, output_index=0)


APIS = {
    "chat": Api(
        chat,
        {**COMPLETION, "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": HELLO}}]},
        (event("hel"), event("lo"), event(None, "stop"), DONE),
    ),
    "completion": Api(
        completion,
        {"id": "c", "choices": [{"index": 0, "text": HELLO, "finish_reason": "stop"}]},
        (text("hel"), text("lo"), text("", "stop"), DONE),
    ),
    "responses": Api(
        responses,
        RESPONSE,
        (
            named(type="response.created", response={**RESPONSE, "status": "in_progress", "output": []}),
            delta("hel"),
            delta("lo"),
            named(type="response.completed", response=RESPONSE),
        ),
    ),
    "messages": Api(
        messages,
        MESSAGE,
        (
            named(type="message_start", message=BEGUN),
            named(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
            said("hel"),
            said("lo"),
            named(type="content_block_stop", index=0),
            named(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1}),
            named(type="message_stop"),
        ),
    ),
    "embeddings": Api(
        embeddings,
        {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]},
    ),
}

# The phases, each with its ways to fail. What was sent before is given to it.


async def reset(asked: Asked, _answer: bytes) -> None:
    asked.reset()


async def close(asked: Asked, _answer: bytes) -> None:
    asked.close()


async def garbage(asked: Asked, _answer: bytes) -> None:
    await asked.say(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    asked.close()


async def half_a_head(asked: Asked, _answer: bytes) -> None:
    await asked.say(b"HTTP/1.1 200 OK\r\ncontent-type: appl")
    asked.close()


async def error_page(asked: Asked, _answer: bytes) -> None:
    await asked.answer(b"<html>bad gateway</html>", status="502 Bad Gateway", kind="text/html")


async def busy(asked: Asked, _answer: bytes) -> None:
    await asked.answer(b'{"error":{"message":"slow down","type":"rate_limit"}}', status="429 Too Many")


async def cut_in_the_middle(asked: Asked, answer: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
    await asked.say(head.encode() + answer[: len(answer) // 2])
    asked.close()


async def reset_in_the_middle(asked: Asked, answer: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
    await asked.say(head.encode() + answer[:9])
    asked.reset()


async def bad_chunks(asked: Asked, _answer: bytes) -> None:
    await asked.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n")
    asked.close()


BEFORE_CONTENT = [reset, close, garbage, half_a_head, error_page, busy, bad_chunks]
ERRORS = (openai.APIError, anthropic.APIError)


@contextlib.asynccontextmanager
async def failing(script: Callable[[Asked], Awaitable[None]]) -> AsyncIterator[Running]:
    async with stack(script) as (running, _):
        yield running
        await running.idle()


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
@pytest.mark.parametrize("fault", [*BEFORE_CONTENT, cut_in_the_middle, reset_in_the_middle])
async def test_a_whole_answer_that_fails_is_an_error(api: Api, fault: Any) -> None:
    async def script(asked: Asked) -> None:
        await fault(asked, json.dumps(api.whole).encode())

    async with failing(script) as running:
        with pytest.raises(ERRORS):
            await asyncio.wait_for(api.ask(running.url, stream=False), 10)


STREAMING = {name: api for name, api in APIS.items() if api.events}


@pytest.mark.parametrize("api", STREAMING.values(), ids=STREAMING)
@pytest.mark.parametrize("fault", BEFORE_CONTENT)
async def test_a_stream_that_does_not_start_is_an_error(api: Api, fault: Any) -> None:
    async def script(asked: Asked) -> None:
        await fault(asked, b"")

    async with failing(script) as running:
        with pytest.raises(ERRORS):
            await asyncio.wait_for(api.ask(running.url, stream=True), 10)


ENDS: dict[str, Callable[[Asked], Awaitable[None]]] = {
    "clean": Asked.end_stream,
    "closed": lambda asked: close(asked, b""),
    "reset": lambda asked: reset(asked, b""),
}


@pytest.mark.parametrize("api", STREAMING.values(), ids=STREAMING)
@pytest.mark.parametrize("how", ENDS)
async def test_a_stream_that_is_cut_anywhere_is_an_error(api: Api, how: str) -> None:
    """After each event, in the middle of each, and just before the end of the one that ends it."""
    whole = b"".join(api.events)
    last = api.events[-2] if api.events[-1] == DONE else api.events[-1]
    end = whole.index(last)
    cuts = [0]
    for one in api.events[: api.events.index(last)]:
        cuts += [cuts[-1] + len(one)]
    cuts += [cut - 20 for cut in cuts[1:]] + [end + 20, end + len(last) - 1]
    cut = 0

    async def script(asked: Asked) -> None:
        await asked.start_stream()
        if cut:
            await asked.chunk(whole[:cut])
        await ENDS[how](asked)

    async with failing(script) as running:
        for place in cuts:
            cut = place
            # Of an event that was cut the SDKs read what there is of it, and raise before the error comes.
            with pytest.raises((*ERRORS, json.JSONDecodeError)):
                await asyncio.wait_for(api.ask(running.url, stream=True), 10)
            running.app.service.cooldowns.served("code-ultra")


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
async def test_a_server_that_works(api: Api) -> None:
    """Also one that says a byte at a time."""

    async def script(asked: Asked) -> None:
        if json.loads(asked.body).get("stream"):
            await asked.start_stream()
            for at in range(len(whole)):
                await asked.chunk(whole[at : at + 1])
            await asked.end_stream()
        else:
            await asked.answer(json.dumps(api.whole).encode())

    whole = b"".join(api.events)
    async with failing(script) as running:
        assert await api.ask(running.url, stream=False) == HELLO
        if api.events:
            assert await api.ask(running.url, stream=True) == HELLO
        assert {record["outcome"] for record in running.recent} == {"ok"}


@pytest.mark.parametrize("api", STREAMING.values(), ids=STREAMING)
async def test_a_client_that_leaves_ends_the_request(api: Api) -> None:
    hung_up = asyncio.Event()

    async def script(asked: Asked) -> None:
        await asked.start_stream()
        await asked.chunk(api.events[0])
        await asked.until_hung_up()
        hung_up.set()

    async with failing(script) as running:
        asking = asyncio.ensure_future(api.ask(running.url, stream=True))
        await until(lambda: running.swapper.held == 1, "the model is asked")
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(hung_up.wait(), 10)

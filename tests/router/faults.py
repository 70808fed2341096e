"""Every API as its own client speaks it, and how a model server can fail at it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anthropic
import openai
from router.clients import COMPLETION, DONE, event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from router.harness import Asked

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

"""Every API with its own client, the responses of a working model server, and how one can fail."""

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

    from router.harness import IncomingRequest

MESSAGES: Any = [{"role": "user", "content": "hello"}]
HELLO = "hello"


# Requests with each API's own client; they return the text once the response is complete


async def chat(url: str, *, stream: bool) -> str:
    async with _openai(url) as client:
        result: Any = await client.chat.completions.create(model="auto", messages=MESSAGES, stream=stream)
        if not stream:
            return str(result.choices[0].message.content)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in result if chunk.choices])


async def completion(url: str, *, stream: bool) -> str:
    async with _openai(url) as client:
        result: Any = await client.completions.create(model="auto", prompt="x", stream=stream)
        if not stream:
            return str(result.choices[0].text)
        return "".join([chunk.choices[0].text async for chunk in result if chunk.choices])


async def responses(url: str, *, stream: bool) -> str:
    async with _openai(url) as client:
        result: Any = await client.responses.create(model="auto", input="x", stream=stream)
        if not stream:
            return str(result.output_text)
        return "".join([part.delta async for part in result if part.type == "response.output_text.delta"])


async def messages(url: str, *, stream: bool) -> str:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0, timeout=10) as client:
        result: Any = await client.messages.create(
            model="auto", messages=MESSAGES, max_tokens=9, stream=stream
        )
        if not stream:
            return str(result.content[0].text)
        return "".join([part.delta.text async for part in result if part.type == "content_block_delta"])


async def embeddings(url: str, *, stream: bool) -> str:
    assert not stream
    async with _openai(url) as client:
        result = await client.embeddings.create(model="code-fast", input="x", encoding_format="float")
        return HELLO if result.data[0].embedding == [0.5] else ""


@contextlib.asynccontextmanager
async def _openai(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=10) as client:
        yield client


def named_event(**data: Any) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


@dataclass(frozen=True)
class Api:
    """One API.

    Attributes:
        send: sends a request with the API's own client.
        response: of a working server; `events` are those of its stream.
    """

    send: Callable[..., Awaitable[str]]
    response: dict[str, Any]
    events: tuple[bytes, ...] = ()


def completion_event(words: str, finish: str | None = None) -> bytes:
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
STARTED_MESSAGE = {**MESSAGE, "content": [], "stop_reason": None}


def text_delta(words: str) -> bytes:
    return named_event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": words})


def output_text_delta(words: str) -> bytes:
    return named_event(
        type="response.output_text.delta", item_id="m", delta=words, content_index=0, output_index=0
    )


APIS = {
    "chat": Api(
        chat,
        {**COMPLETION, "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": HELLO}}]},
        (event("hel"), event("lo"), event(None, "stop"), DONE),
    ),
    "completion": Api(
        completion,
        {"id": "c", "choices": [{"index": 0, "text": HELLO, "finish_reason": "stop"}]},
        (completion_event("hel"), completion_event("lo"), completion_event("", "stop"), DONE),
    ),
    "responses": Api(
        responses,
        RESPONSE,
        (
            named_event(
                type="response.created", response={**RESPONSE, "status": "in_progress", "output": []}
            ),
            output_text_delta("hel"),
            output_text_delta("lo"),
            named_event(type="response.completed", response=RESPONSE),
        ),
    ),
    "messages": Api(
        messages,
        MESSAGE,
        (
            named_event(type="message_start", message=STARTED_MESSAGE),
            named_event(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
            text_delta("hel"),
            text_delta("lo"),
            named_event(type="content_block_stop", index=0),
            named_event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1}),
            named_event(type="message_stop"),
        ),
    ),
    "embeddings": Api(
        embeddings,
        {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]},
    ),
}

# Ways to fail in each phase of a response. They get the response that a working server would send.


async def reset(request: IncomingRequest, _response: bytes) -> None:
    request.reset()


async def close(request: IncomingRequest, _response: bytes) -> None:
    request.close()


async def garbage(request: IncomingRequest, _response: bytes) -> None:
    await request.send(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    request.close()


async def half_a_head(request: IncomingRequest, _response: bytes) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\ncontent-type: appl")
    request.close()


async def error_page(request: IncomingRequest, _response: bytes) -> None:
    await request.respond(b"<html>bad gateway</html>", status="502 Bad Gateway", content_type="text/html")


async def busy(request: IncomingRequest, _response: bytes) -> None:
    await request.respond(b'{"error":{"message":"slow down","type":"rate_limit"}}', status="429 Too Many")


async def cut_in_the_middle(request: IncomingRequest, response: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(response)}\r\n\r\n"
    await request.send(head.encode() + response[: len(response) // 2])
    request.close()


async def reset_in_the_middle(request: IncomingRequest, response: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(response)}\r\n\r\n"
    await request.send(head.encode() + response[:9])
    request.reset()


async def bad_chunks(request: IncomingRequest, _response: bytes) -> None:
    await request.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n")
    request.close()


BEFORE_CONTENT = [reset, close, garbage, half_a_head, error_page, busy, bad_chunks]

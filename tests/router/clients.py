"""Clients of the router, and the responses of a model server that works."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from router.harness import IncomingRequest, RunningRouter


@dataclass(frozen=True)
class Reply:
    """A response that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        error = json.loads(self.body)["error"]
        assert isinstance(error, dict)
        return error

    @property
    def events(self) -> list[str]:
        return [event for event in self.body.decode().split("\n\n") if event]

    @property
    def last_error(self) -> dict[str, Any]:
        """The error event that ends a stream."""
        assert self.body.endswith(b"\n\n")
        error = json.loads(self.events[-1].removeprefix("data: "))["error"]
        assert isinstance(error, dict)
        return error


async def request(
    running: RunningRouter, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Reply:
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.request(
            method, f"{running.url}{path}", data=data and as_payload(data), headers=headers
        ) as response,
    ):
        return Reply(
            response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()
        )


def as_payload(data: bytes) -> Any:
    """Return a body in a form that aiohttp sends; large ones in parts."""
    return aiohttp.BytesIOPayload(io.BytesIO(data)) if len(data) > 2**20 else data


def chat_request(text: str = "hello", *, model: str | None = "auto", **more: Any) -> dict[str, Any]:
    model_field = {} if model is None else {"model": model}
    return {**model_field, "messages": [{"role": "user", "content": text}], **more}


async def chat(running: RunningRouter, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
    return await request(running, "POST", "/v1/chat/completions", body or chat_request(), headers)


@contextlib.asynccontextmanager
async def raw_client(
    running: RunningRouter, body: dict[str, Any], path: str = "/v1/chat/completions"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection with a request sent on it, for tests of clients that disconnect or measure time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


# Responses of a model server that works

COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def event(content: str | None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    document = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "x",
        "choices": choices,
    }
    return b"data: " + json.dumps(document).encode() + b"\n\n"


USAGE = (
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"x","choices":[],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
)
DONE = b"data: [DONE]\n\n"


async def well_behaved(request: IncomingRequest) -> None:
    if not _wants_stream(request.body):
        await request.respond(b"" if request.line.startswith("HEAD ") else json.dumps(COMPLETION).encode())
        return
    await request.start_stream()
    for part in (event("he"), event("llo"), event(None, "stop"), USAGE, DONE):
        await request.chunk(part)
    await request.end_stream()


def _wants_stream(body: bytes) -> bool:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.get("stream") is True


async def request_raw_path(running: RunningRouter, method: str, path: str, body: Any) -> tuple[int, bytes]:
    """Send a path unchanged: HTTP clients normalise it."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(response.split()[1]), response

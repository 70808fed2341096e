"""Raw HTTP to and from the router, which no HTTP client library would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.router.http.limits import HttpLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from router.harness import RunningRouter

CHAT = json.dumps({"model": "plan", "messages": [{"role": "user", "content": "hello"}]}).encode()


def request_head(
    *lines: str, method: str = "POST", path: str = "/v1/chat/completions", version: str = "1.1"
) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/{version}", "host: localhost", *lines, "", "")).encode(
        "latin-1"
    )


def whole_request(body: bytes = CHAT, *lines: str, version: str = "1.1") -> bytes:
    return request_head(*lines, f"content-length: {len(body)}", version=version) + body


HEALTH = request_head(method="GET", path="/health")
CHUNKED = "transfer-encoding: chunked"
SHORT_LIMITS = HttpLimits(head_s=0.05, body_s=0.05, body_rate=1e9, idle_s=0.05, linger_s=0.5, sweep_s=0.02)


def chunked_body(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@dataclass(frozen=True)
class RawResponse:
    """One response, read as HTTP/1.1 requires."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


class RawConnection:
    """One connection to the router."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def read_response(self, *, without_body: bool = False) -> RawResponse:
        async with asyncio.timeout(10):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *fields = text.rstrip("\r\n").split("\r\n")
            headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
            if without_body:
                body = b""
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            elif headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.reader.readline(), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
            else:
                body = await self.reader.read()
            return RawResponse(int(line.split()[1]), headers, body)

    async def read_to_end(self) -> bytes:
        """Return everything until the router closes the connection; `reset` if it resets it."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
            return b"reset"


@contextlib.asynccontextmanager
async def connect(running: RunningRouter) -> AsyncIterator[RawConnection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

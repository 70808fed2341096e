"""Bytes to and from the router, as no HTTP client would send them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.router.http.limits import HttpLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from router.harness import Running

CHAT = json.dumps({"model": "plan", "messages": [{"role": "user", "content": "hello"}]}).encode()


def head(
    *lines: str, method: str = "POST", path: str = "/v1/chat/completions", version: str = "1.1"
) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/{version}", "host: localhost", *lines, "", "")).encode(
        "latin-1"
    )


def whole(body: bytes = CHAT, *lines: str, version: str = "1.1") -> bytes:
    return head(*lines, f"content-length: {len(body)}", version=version) + body


HEALTH = head(method="GET", path="/health")
CHUNKED = "transfer-encoding: chunked"
QUICK = HttpLimits(head_s=0.05, body_s=0.05, body_rate=1e9, idle_s=0.05, linger_s=0.5, sweep_s=0.02)


def in_chunks(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@dataclass(frozen=True)
class Got:
    """One answer, read as HTTP/1.1 demands."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


class Wire:
    """One connection to the router."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def answer(self, *, bodiless: bool = False) -> Got:
        async with asyncio.timeout(10):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *fields = text.rstrip("\r\n").split("\r\n")
            headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
            if bodiless:
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
            return Got(int(line.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Everything until the router closes the connection."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
            return b"reset"


@contextlib.asynccontextmanager
async def connected(running: Running) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

"""Random requests with faults, and a client that sends them in pieces and disconnects at random."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import TYPE_CHECKING

from router.clients import chat_request
from router.raw_http import request_head, whole_request

if TYPE_CHECKING:
    from random import Random

_STREAM = json.dumps(chat_request(stream=True)).encode()
_CHUNKED = request_head("transfer-encoding: chunked")
SEEDS = (
    whole_request(),
    whole_request(_STREAM),
    whole_request(_STREAM, version="1.0"),
    whole_request() + whole_request(_STREAM),
    _CHUNKED + b'5;a=b\r\n{"mod\r\n%x\r\n%b\r\n0\r\nx: y\r\n\r\n' % (len(_STREAM), _STREAM),
    request_head(method="GET", path="/health") * 3,
    request_head(method="HEAD", path="/v1/models"),
    request_head("expect: 100-continue", "content-length: 2") + b"{}",
    request_head("upgrade: websocket", "connection: upgrade", method="GET", path="/llmstack/status"),
    request_head("upgrade: h2c", "connection: upgrade", "content-length: 5") + b"hello",
    whole_request(b"x" * 300_000),
)  # fmt: skip
WORDS = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"%", b"\xff", b"\x7f", b"/", b"?", b"#"),
    *(b"content-length: ", b"transfer-encoding: chunked\r\n", b"connection: close\r\n", b"host: evil\r\n"),
    *(b"0\r\n\r\n", b"-1", b"99999999999999999999", b"ffffffffffffffff", b"HTTP/1.1", b"HTTP/1.0", b"GET "),
    *(b"x" * 5000, b"x: y\r\n" * 200, b"POST /v1/chat/completions HTTP/1.1\r\n"),
)  # fmt: skip
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def broken_request(random: Random) -> bytes:
    """Return one or several requests with up to six faults, mostly in their heads."""
    data = bytearray(random.choice(SEEDS))
    for _ in range(random.randrange(7)):
        at = min(len(data), int(random.expovariate(1 / 80)))
        kind = random.randrange(5)
        if kind == 0:
            data[at:at] = random.choice(WORDS)
        elif kind == 1:
            del data[at : at + random.choice((1, 1, 2, 5, 40))]
        elif kind == 2:
            data[at : at + 1] = bytes((random.randrange(256),))
        elif kind == 3:
            data[at:at] = data[at // 2 : at // 2 + random.randrange(60)]
        else:
            del data[random.randrange(len(data) + 1) :]
    return bytes(data)


async def send_and_read_statuses(port: int, data: bytes, random: Random) -> list[int]:
    """Send data in pieces and end the connection at random; return the statuses of the responses."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    responses = b""
    try:
        with contextlib.suppress(ConnectionError):
            at = 0
            while at < len(data) and not writer.transport.is_closing():
                size = random.choice((1, 7, 100, 5000, 2**20))
                writer.write(data[at : at + size])
                at += size
                if random.random() < 0.2:
                    await asyncio.sleep(0)
            ending = random.randrange(4)
            if writer.transport.is_closing():
                pass  # the router was faster
            elif ending == 0:
                writer.transport.abort()
            elif ending == 1:
                writer.close()
            else:
                writer.write_eof()
                responses = await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return [int(status) for status in _STATUS.findall(responses)]

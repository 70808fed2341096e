#!/usr/bin/env python3
"""A fake llama-server that needs almost no CPU: it sends a fixed response, or 100 chunks 2 ms apart.

It accepts llama-server's flags, so that the router starts it like any model server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time

CHUNKS = 100
GAP_S = 0.002
COMPLETION = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "model": "fixed",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok " * 20}}
        ],
        "usage": {"prompt_tokens": 500, "completion_tokens": 20, "total_tokens": 520},
    }
).encode()


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "delta": {"content": text} if text else {}}
    body = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "model": "fixed", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def as_chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


COMPLETE_RESPONSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(COMPLETION)
    + COMPLETION
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = as_chunk(event(" word"))
PACE = re.compile(rb'"pace": ?{"gap_s": ?([0-9.]+), ?"chunks": ?(\d+)}')
STREAM_END = as_chunk(event("", "stop")) + as_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


async def send_paced(writer: asyncio.StreamWriter, gap_s: float, chunks: int) -> None:
    """Send chunks with the time of sending, by the monotonic clock that all processes of a machine share."""
    for _ in range(chunks):
        writer.write(as_chunk(event(f"sent={time.monotonic():.6f}")))
        await asyncio.sleep(gap_s)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = await reader.readexactly(length)
            if b'"stream":true' in body or b'"stream": true' in body:
                writer.write(STREAM_HEAD)
                if (pace := PACE.search(body)) is not None:
                    await send_paced(writer, float(pace[1]), int(pace[2]))
                else:
                    for _ in range(CHUNKS):
                        writer.write(TOKEN)
                        await asyncio.sleep(GAP_S)
                writer.write(STREAM_END)
            else:
                writer.write(COMPLETE_RESPONSE)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1", help="an address, or a path that ends with .sock")
    parser.add_argument("--port", type=int)
    options, _ = parser.parse_known_args()
    limits = {"limit": 4 * 2**20, "backlog": 2048}
    if options.host.endswith(".sock"):
        server = await asyncio.start_unix_server(serve, options.host, **limits)
    else:
        server = await asyncio.start_server(serve, options.host, options.port, **limits)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main())
    except ImportError:
        asyncio.run(main())

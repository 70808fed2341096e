"""The router's own servers: nobody else gets what is meant for them, nor answers in their place."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from support.net import free_port, listener
from support.stranger import needs_root, stranger_on
from support.waiting import wait_until_async

from llmstack.upstream.address import child_url, unix_socket_url
from llmstack.upstream.client import Upstream, UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SECRET = "Bearer the-key-of-this-start"
# A server that its own child runs, as a launcher does; `GET /leave` ends the server, not the launcher.
_LAUNCHER = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
print("ended", flush=True)
sys.stdin.read()
"""
_SERVER = """
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/leave":
            os._exit(0)
        body = repr((self.path, self.headers["host"], self.headers["authorization"])).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("listening", flush=True)
server.serve_forever()
"""


@asynccontextmanager
async def launched(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _LAUNCHER, _SERVER, str(port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert await process.stdout.readline() == b"listening\n"
        yield process
    finally:
        async with Upstream() as upstream:
            with suppress(UpstreamError):
                await ask(upstream, child_url(process.pid, "127.0.0.1", port), "/leave")
        process.stdin.close()
        await process.wait()


async def ask(upstream: Upstream, url: str, path: str = "/x?y") -> str:
    with await upstream.send("GET", f"{url}{path}", {"authorization": SECRET}) as response:
        return (await response.read(65_536)).decode()


async def test_a_server_on_a_unix_socket_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "a name, with signs%2F.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(head), head))
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(answer, path), Upstream() as upstream:
        expected = f"GET /x?y HTTP/1.1\r\nhost: localhost\r\nauthorization: {SECRET}\r\n\r\n"
        assert await ask(upstream, unix_socket_url(path)) == expected


async def test_a_unix_socket_that_is_gone_is_an_error(tmp_path: Path) -> None:
    async with Upstream() as upstream:
        with pytest.raises(UpstreamError, match="cannot connect: No such file or directory"):
            await ask(upstream, unix_socket_url(tmp_path / "gone.sock"))


async def test_a_server_that_a_child_has_started_is_reached() -> None:
    port = free_port()
    async with launched(port) as process, Upstream() as upstream:
        for _ in range(2):
            answer = await ask(upstream, child_url(process.pid, "127.0.0.1", port))
            assert answer == repr(("/x?y", f"127.0.0.1:{port}", SECRET))


async def test_a_process_that_is_no_child_is_sent_nothing() -> None:
    """Of this user here; that it is another process is enough."""
    with listener() as other:
        port = other.getsockname()[1]
        async with launched(free_port()) as process, Upstream() as upstream:
            with pytest.raises(UpstreamError, match=f"port {port} is not served by the process"):
                await ask(upstream, child_url(process.pid, "127.0.0.1", port))
            for pid in (1, 2**22 + 1):
                with pytest.raises(UpstreamError, match="is not served by the process"):
                    await ask(upstream, child_url(pid, "127.0.0.1", port))


@needs_root
async def test_another_user_who_takes_the_port_is_sent_nothing(tmp_path: Path) -> None:
    port = free_port()
    async with launched(port) as process, Upstream() as upstream:
        url = child_url(process.pid, "127.0.0.1", port)
        with stranger_on(port, tmp_path) as stranger:
            assert SECRET in await ask(upstream, url)
            with pytest.raises(UpstreamError):  # on a connection that was proven before
                await ask(upstream, url, "/leave")
            await wait_until_async(lambda: stranger.is_listening)
            with pytest.raises(UpstreamError, match=f"port {port} is not served by the process"):
                await ask(upstream, url)
            assert stranger.received == b""


@needs_root
async def test_another_user_who_takes_the_port_while_we_connect_is_sent_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child's server ends between the check and the connection; the launcher still runs."""
    port = free_port()
    async with launched(port) as process, Upstream() as upstream:
        assert process.stdout is not None
        url = child_url(process.pid, "127.0.0.1", port)
        with stranger_on(port, tmp_path) as stranger:
            connect = Upstream._open_connection  # noqa: SLF001 - the moment between check and connection

            async def connect_late(self: Upstream, origin: object) -> object:
                monkeypatch.setattr(Upstream, "_open_connection", connect)
                async with Upstream() as other:
                    with pytest.raises(UpstreamError):
                        await ask(other, url, "/leave")
                await wait_until_async(lambda: stranger.is_listening)
                return await connect(self, origin)  # type: ignore[arg-type]

            monkeypatch.setattr(Upstream, "_open_connection", connect_late)
            with pytest.raises(UpstreamError, match="taken over by another process"):
                await ask(upstream, url)
            assert stranger.received == b""

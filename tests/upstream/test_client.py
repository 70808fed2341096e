"""The HTTP client: every response is complete or an error, and no connection is left open."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from router.harness import IncomingRequest, ScriptedServer, scripted_server, wait_until

from llmstack.units import MB
from llmstack.upstream.client import Upstream, UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def send_script(data: bytes, then: str = "close") -> Callable[[IncomingRequest], Awaitable[None]]:
    async def script(request: IncomingRequest) -> None:
        if data:
            await request.send(data)
        if then == "close":
            request.close()
        elif then == "reset":
            request.reset()

    return script


@contextlib.asynccontextmanager
async def client(
    script: Callable[[IncomingRequest], Awaitable[None]],
) -> AsyncIterator[tuple[Upstream, ScriptedServer]]:
    async with scripted_server(script) as server:
        upstream = Upstream()
        try:
            yield upstream, server
        finally:
            await upstream.close()


async def fetch(upstream: Upstream, server: ScriptedServer, method: str = "POST") -> tuple[int, bytes]:
    body = b"{}" if method == "POST" else b""
    async with asyncio.timeout(10):
        with await upstream.send(method, f"{server.url}/x?y", {}, body) as response:
            return response.status, await response.read(MB)


@pytest.mark.parametrize("then", ["close", "reset", "stay"])
@pytest.mark.parametrize(
    ("response_bytes", "status", "body"),
    [
        (OK + b"content-length: 5\r\n\r\nhello", 200, b"hello"),
        (OK + b"content-length: 0\r\n\r\n", 200, b""),
        (CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\ntrailer: 1\r\n\r\n", 200, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 50\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 2\r\n\r\nhi", 200, b"hi"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 3 + CHUNKED + b"0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 299\r\ncontent-length: 1\r\n\r\nx", 299, b"x"),
        (OK + b"content-length: 2\r\nconnection: close\r\n\r\nhi", 200, b"hi"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi"),
    ],
)
async def test_complete_responses_are_read(
    response_bytes: bytes, status: int, body: bytes, then: str
) -> None:
    async with client(send_script(response_bytes, then)) as (upstream, server):
        for _ in range(3):
            assert await fetch(upstream, server) == (status, body)


async def test_a_response_without_a_length_ends_with_its_connection() -> None:
    for version in (b"1.1", b"1.0"):
        async with client(send_script(b"HTTP/" + version + b" 200 OK\r\n\r\nhello")) as (upstream, server):
            assert await fetch(upstream, server) == (200, b"hello")
        async with client(send_script(b"HTTP/" + version + b" 200 OK\r\n\r\nhello", "reset")) as (
            upstream,
            server,
        ):
            with pytest.raises(UpstreamError):
                await fetch(upstream, server)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    "response_bytes",
    [
        b"",
        b"HTTP/1.1",
        OK,
        OK + b"content-length: 9\r\n\r\n",
        OK + b"content-length: 9\r\n\r\nhello",
        CHUNKED,
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_a_response_that_breaks_off_is_an_error(response_bytes: bytes, then: str) -> None:
    async with client(send_script(response_bytes, then)) as (upstream, server):
        with pytest.raises(UpstreamError, match="the connection was closed"):
            await fetch(upstream, server)
        await wait_until(lambda: server.open == 0, "the connection is closed")


async def test_a_response_to_head_has_no_body() -> None:
    async with client(send_script(OK + b"content-length: 500\r\n\r\n", "stay")) as (upstream, server):
        assert await fetch(upstream, server, "HEAD") == (200, b"")
        assert await fetch(upstream, server, "HEAD") == (200, b"")


async def test_surplus_data_is_not_taken_for_the_next_response() -> None:
    twice = OK + b"content-length: 2\r\n\r\nhi"
    async with client(send_script(twice + twice.replace(b"hi", b"no"), "stay")) as (upstream, server):
        for _ in range(3):
            assert await fetch(upstream, server) == (200, b"hi")
        assert server.connections == 3


async def test_connections_are_reused_until_the_server_closes_them() -> None:
    async with client(send_script(OK + b"content-length: 2\r\n\r\nhi", "stay")) as (upstream, server):
        for _ in range(5):
            await fetch(upstream, server)
        assert server.connections == 1
        await asyncio.gather(*(fetch(upstream, server) for _ in range(5)))
        assert server.connections <= 5
        for request in server.requests:
            request.close()
        await wait_until(lambda: server.open == 0, "the server has closed them all")
        assert await fetch(upstream, server) == (200, b"hi")


async def test_a_response_that_is_not_read_to_its_end_is_cancelled() -> None:
    async def endless(request: IncomingRequest) -> None:
        await request.start_stream()
        while not request.writer.is_closing():
            await request.chunk(b"x" * 10_000)

    async with client(endless) as (upstream, server):
        with await upstream.send("POST", server.url, {}, b"{}") as response:
            assert await anext(response.chunks())
        await wait_until(lambda: server.open == 0, "the connection is closed")
        sending = asyncio.create_task(upstream.send("POST", server.url, {}, b"{}"))
        await asyncio.sleep(0)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        await wait_until(lambda: server.open == 0, "the connection is closed")


async def test_a_sink_that_is_full_gets_the_rest_later() -> None:
    async def much(request: IncomingRequest) -> None:
        await request.start_stream()
        for _ in range(200):
            await request.chunk(b"x" * 10_000)
        await request.end_stream()

    received, calls = 0, 0

    def take(part: bytes) -> bool:
        nonlocal received
        received += len(part)
        return False

    async with client(much) as (upstream, server):
        async with asyncio.timeout(10):
            with await upstream.send("POST", server.url, {}, b"{}") as response:
                while not await response.chunks().pass_on(take):
                    calls += 1
        assert (received, calls > 1) == (2_000_000, True)


async def test_an_exception_in_the_sink_is_raised() -> None:
    first_part_read = asyncio.Event()

    def breaks(part: bytes) -> bool:
        if part == b"1":
            first_part_read.set()
            return True
        raise ZeroDivisionError

    async def script(request: IncomingRequest) -> None:
        await request.start_stream()
        await request.chunk(b"1")
        await first_part_read.wait()
        await request.chunk(b"2")

    async with client(script) as (upstream, server):
        async with asyncio.timeout(10):
            with (
                await upstream.send("POST", server.url, {}, b"{}") as response,
                pytest.raises(ZeroDivisionError),
            ):
                await response.chunks().pass_on(breaks)
        await wait_until(lambda: server.open == 0, "the connection is closed")


async def test_sending_stops_if_the_server_closes_without_a_response() -> None:
    size, failed = 30_000_000, asyncio.Event()
    received_size: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def half_closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await failed.wait()
        size_read = 0
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1_000_000):
                size_read += len(part)
        writer.close()
        received_size.set_result(size_read)

    async with await asyncio.start_server(half_closes, "127.0.0.1", 0) as server, Upstream() as upstream:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(UpstreamError, match="without an answer"):
            await upstream.send("POST", f"http://{host}:{port}/", {}, b"x" * size)
        failed.set()
        assert await asyncio.wait_for(received_size, 10) < size


async def test_an_unreachable_server_is_an_error() -> None:
    upstream = Upstream()
    with pytest.raises(UpstreamError, match="cannot connect"):
        await upstream.send("GET", "http://127.0.0.1:1/", {}, b"")
    with pytest.raises(UpstreamError, match="cannot connect"):
        await upstream.send("GET", "http://no-such-host.invalid/", {}, b"")
    await upstream.close()


async def test_line_breaks_in_headers_and_addresses_are_refused() -> None:
    upstream = Upstream()
    for address in ("127.0.0.1:1/x HTTP/1.1\r\ny: 1", "127.0.0.1:1\n/", "127.0.0.1:1?\n"):
        with pytest.raises(UpstreamError, match="line break"):
            await upstream.send("GET", f"http://{address}", {}, b"")
    with pytest.raises(UpstreamError, match="line break"):
        await upstream.send("GET", "http://127.0.0.1:1/", {"x": "y\r\nz: 1"}, b"")
    with pytest.raises(UpstreamError, match="characters"):
        await upstream.send("GET", "http://127.0.0.1:1/", {"x": "\u20ac"}, b"")

"""Responses cut at any point: the fast paths give the same result as the parser."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from llmstack.upstream.connection import MAX_WAITING_BYTES, ServerConnection
from llmstack.upstream.response_reader import ConnectionBrokenError

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
HOSTILE = (
    *(b"5\r\nhello", b"5\r\n\r\n", b"5\r\nhelloXX", b"0x5\r\nhello\r\n", b"+5\r\nhello\r\n"),
    *(b"1_0\r\n0123456789abcdef\r\n", b"-5\r\nhello\r\n", b"6\r\nhello\r\n", b"4\r\nhello\r\n"),
    *(b"\r\n", b" 5\r\nhello\r\n", b"5\nhello\r\n", b"5\r\nhello\n\n", b"ffffffffffffffffff\r\n"),
    *(b"5;x=\r\n", b"0\r\n\r\n0\r\n\r\n"),
)


class Pipe(asyncio.Transport):
    """The transport of a connection, which records how it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.pauses = 0

    def write(self, data: object) -> None:
        """Discard it."""

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        """Do nothing: nothing was held back."""


@dataclass
class ReadResult:
    body: bytes = b""
    error: str = ""
    unparsed: int = field(default=0, compare=False)


async def read(pieces: list[bytes], *, relaying: bool, ending: bytes = b"") -> ReadResult:
    """Return what is read of a response that arrives in these pieces."""
    result, pipe = ReadResult(), Pipe()
    connection = ServerConnection(lambda _: None)
    connection.connection_made(pipe)
    response_task = asyncio.create_task(connection.request(b"GET", b"", no_body=False))
    await asyncio.sleep(0)
    connection.data_received(HEAD)
    await response_task

    def take(part: bytes) -> bool:
        result.body += part
        return True

    def relay(chunk: bytes) -> bool:
        size, _, rest = chunk.partition(b"\r\n")
        assert len(rest) == int(size, 16) + 2, "it is exactly one chunk"
        assert rest.endswith(ending + b"\r\n")
        result.unparsed += 1
        return take(rest[:-2])

    pass_on_task = asyncio.create_task(connection.pass_on(take, relay if relaying else None, ending))
    await asyncio.sleep(0)
    for piece in pieces:
        if not pipe.closed:
            connection.data_received(piece)
    assert not pipe.pauses, "reading is never paused"
    connection.connection_lost(None)
    try:
        assert await pass_on_task
    except ConnectionBrokenError as error:
        result.error = str(error)
    return result


def chunk(rng: random.Random) -> bytes:
    body = bytes(rng.choices(b"ab0\r\n{}", k=rng.choice((1, 9, 15, 16, 17, 255, 256, 4095, 4096))))
    body = rng.choice((body, body, body + b"\n\n", b"\n"))
    size = rng.choice(("{:x}", "{:x}", "{:X}", "{:04x}", "{:x};a=b")).format(len(body)).encode()
    return size + b"\r\n" + body + b"\r\n"


def cut(chunks: list[bytes], rng: random.Random) -> list[bytes]:
    """Cut a response at random points; often between two chunks, as most servers do."""
    pieces = [b""]
    for each in chunks:
        at = rng.randint(0, len(each)) if rng.random() < 0.4 else len(each)
        pieces[-1] += each[:at]
        if rng.random() < 0.8:
            pieces.append(b"")
        pieces[-1] += each[at:]
        if rng.random() < 0.8:
            pieces.append(b"")
    return [piece for piece in pieces if piece]


@pytest.mark.parametrize("ending", [b"", b"\n\n"])
@pytest.mark.parametrize("hostile", [False, True])
async def test_the_fast_path_for_chunks_gives_the_same_result_as_the_parser(
    ending: bytes, *, hostile: bool
) -> None:
    unparsed = broken = 0
    for seed in range(400):
        rng = random.Random(seed)  # noqa: S311 - no secret
        chunks = [chunk(rng) for _ in range(rng.randint(1, 9))]
        if hostile:
            chunks.insert(rng.randint(0, len(chunks)), rng.choice(HOSTILE))
        pieces = cut([*chunks, b"0\r\n\r\n"], rng)
        expected = await read(pieces, relaying=False)
        result = await read(pieces, relaying=True, ending=ending)
        assert result == expected, (seed, pieces)
        unparsed += result.unparsed
        broken += bool(result.error)
    assert unparsed > 50
    assert (broken > 200) is hostile


@pytest.mark.parametrize(
    "pieces",
    [
        # What looks like a chunk is the end of a longer chunk's size, and the start of its content.
        [b"2\r\nhi\r\n1", b"10\r\n" + b"x" * 16 + b"\r\n", b"y" * 254 + b"\r\n0\r\n\r\n"],
        [b"2\r\nhi\r\n0\r\n\r\n", b"10\r\n" + b"x" * 16 + b"\r\n"],  # after the end
    ],
)
async def test_data_that_only_looks_like_a_chunk_goes_through_the_parser(pieces: list[bytes]) -> None:
    assert await read(pieces, relaying=True) == await read(pieces, relaying=False)


async def test_an_exception_in_the_relay_is_raised() -> None:
    connection = ServerConnection(lambda _: None)
    connection.connection_made(Pipe())
    response_task = asyncio.create_task(connection.request(b"GET", b"", no_body=False))
    await asyncio.sleep(0)
    connection.data_received(HEAD)
    await response_task
    pass_on_task = asyncio.create_task(connection.pass_on(lambda _: True, lambda _: bool(1 / 0)))
    await asyncio.sleep(0)
    connection.data_received(b"10\r\n0123456789abcdef\r\n")
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(pass_on_task, 5)


# Responses whose head was received before

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %b\r\nx-a: 1\r\n\r\n"
FIRST = OK % b"3" + b"abc"
FIRST_FIELDS = (200, [("content-type", "text/plain"), ("x-a", "1")], "text/plain")


async def connect() -> tuple[ServerConnection, Pipe]:
    pipe, connection = Pipe(), ServerConnection(lambda _: None)
    connection.connection_made(pipe)
    return connection, pipe


async def exchange(connection: ServerConnection, pipe: Pipe, pieces: list[bytes]) -> tuple[object, ...]:
    """Return what is read of a response in these pieces, and whether the connection can be reused."""
    response_task = asyncio.create_task(connection.request(b"GET", b"", no_body=False))
    await asyncio.sleep(0)
    for piece in pieces:
        if not pipe.closed:
            connection.data_received(piece)
    if not connection.complete and not pipe.closed:
        connection.eof_received()
    try:
        head = await response_task
        fields = (head.status, head.headers, head.content_type, await connection.whole(2**20))
    except ConnectionBrokenError as error:
        return (str(error), connection.release())
    return (*fields, connection.release())


@pytest.mark.parametrize(
    ("length", "body"),
    [
        *[(b"5", b"hello"), (b"0", b""), (b"005", b"hello"), (b"5 ", b"hello"), (b"\t5", b"hello")],
        *[(b"9" * 19, b"x"), (b"9" * 20, b"x"), (b"0" * 25 + b"1", b"x"), (b"", b"x"), (b"+1", b"x")],
        *[(b"1_0", b"x" * 10), (b"1\r\nx-b: 2", b"x"), (b"1\r\ntransfer-encoding: chunked", b"0\r\n\r\n")],
    ],
)
@pytest.mark.parametrize("more", [b"", b"\r\n", b"x", FIRST])
async def test_a_cached_response_head_is_read_like_a_new_one(length: bytes, body: bytes, more: bytes) -> None:
    response = OK % length + body + more
    for cut_at in range(len(response) + 1):
        pieces = [piece for piece in (response[:cut_at], response[cut_at:]) if piece]
        again, pipe = await connect()
        assert await exchange(again, pipe, [FIRST]) == (*FIRST_FIELDS, b"abc", True)
        assert await exchange(again, pipe, pieces) == await exchange(*await connect(), pieces), pieces


async def test_an_unread_body_does_not_block_the_next_response() -> None:
    connection, pipe = await connect()
    response_task = asyncio.create_task(connection.request(b"GET", b"", no_body=False))
    await asyncio.sleep(0)
    connection.data_received(OK % b"%d" % (2 * MAX_WAITING_BYTES) + b"x" * 2 * MAX_WAITING_BYTES)
    await response_task
    assert connection.release()
    assert await exchange(connection, pipe, [OK[:20], OK[20:] % b"2" + b"hi"]) == (*FIRST_FIELDS, b"hi", True)
    assert pipe.pauses == 1

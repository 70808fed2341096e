"""Answers, however they are cut: what the parser is spared is what it would have said."""

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
    """What the connection writes to, and closes."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.pauses = 0

    def write(self, data: object) -> None:
        """Nobody reads it."""

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        """Nothing was held back."""


@dataclass
class Got:
    body: bytes = b""
    error: str = ""
    unparsed: int = field(default=0, compare=False)


async def read(pieces: list[bytes], *, relaying: bool, ending: bytes = b"") -> Got:
    """Return what is said of an answer that comes in these pieces."""
    got, pipe = Got(), Pipe()
    connection = ServerConnection(lambda _: None)
    connection.connection_made(pipe)
    answering = asyncio.create_task(connection.request(b"GET", b"", no_body=False))
    await asyncio.sleep(0)
    connection.data_received(HEAD)
    await answering

    def take(part: bytes) -> bool:
        got.body += part
        return True

    def relay(chunk: bytes) -> bool:
        size, _, rest = chunk.partition(b"\r\n")
        assert len(rest) == int(size, 16) + 2, "it is just one chunk"
        assert rest.endswith(ending + b"\r\n")
        got.unparsed += 1
        return take(rest[:-2])

    passing = asyncio.create_task(connection.pass_on(take, relay if relaying else None, ending))
    await asyncio.sleep(0)
    for piece in pieces:
        if not pipe.closed:
            connection.data_received(piece)
    assert not pipe.pauses, "all of it is taken as it comes"
    connection.connection_lost(None)
    try:
        assert await passing
    except ConnectionBrokenError as error:
        got.error = str(error)
    return got


def chunk(chance: random.Random) -> bytes:
    body = bytes(chance.choices(b"ab0\r\n{}", k=chance.choice((1, 9, 15, 16, 17, 255, 256, 4095, 4096))))
    body = chance.choice((body, body, body + b"\n\n", b"\n"))
    size = chance.choice(("{:x}", "{:x}", "{:X}", "{:04x}", "{:x};a=b")).format(len(body)).encode()
    return size + b"\r\n" + body + b"\r\n"


def cut(chunks: list[bytes], chance: random.Random) -> list[bytes]:
    """Cut an answer anywhere; often between two chunks, where most servers do."""
    pieces = [b""]
    for each in chunks:
        at = chance.randint(0, len(each)) if chance.random() < 0.4 else len(each)
        pieces[-1] += each[:at]
        if chance.random() < 0.8:
            pieces.append(b"")
        pieces[-1] += each[at:]
        if chance.random() < 0.8:
            pieces.append(b"")
    return [piece for piece in pieces if piece]


@pytest.mark.parametrize("ending", [b"", b"\n\n"])
@pytest.mark.parametrize("hostile", [False, True])
async def test_the_fast_path_for_chunks_gives_the_same_result_as_the_parser(
    ending: bytes, *, hostile: bool
) -> None:
    unparsed = broken = 0
    for seed in range(400):
        chance = random.Random(seed)  # noqa: S311 - no secret
        chunks = [chunk(chance) for _ in range(chance.randint(1, 9))]
        if hostile:
            chunks.insert(chance.randint(0, len(chunks)), chance.choice(HOSTILE))
        pieces = cut([*chunks, b"0\r\n\r\n"], chance)
        expected = await read(pieces, relaying=False)
        got = await read(pieces, relaying=True, ending=ending)
        assert got == expected, (seed, pieces)
        unparsed += got.unparsed
        broken += bool(got.error)
    assert unparsed > 50
    assert (broken > 200) is hostile


@pytest.mark.parametrize(
    "pieces",
    [
        # What looks like a chunk here is the rest of the size of a longer one, and some of its content.
        [b"2\r\nhi\r\n1", b"10\r\n" + b"x" * 16 + b"\r\n", b"y" * 254 + b"\r\n0\r\n\r\n"],
        [b"2\r\nhi\r\n0\r\n\r\n", b"10\r\n" + b"x" * 16 + b"\r\n"],  # beyond the end
    ],
)
async def test_data_that_only_looks_like_a_chunk_goes_through_the_parser(pieces: list[bytes]) -> None:
    assert await read(pieces, relaying=True) == await read(pieces, relaying=False)


async def test_an_exception_in_the_relay_is_raised() -> None:
    connection = ServerConnection(lambda _: None)
    connection.connection_made(Pipe())
    answering = asyncio.create_task(connection.request(b"GET", b"", no_body=False))
    await asyncio.sleep(0)
    connection.data_received(HEAD)
    await answering
    passing = asyncio.create_task(connection.pass_on(lambda _: True, lambda _: bool(1 / 0)))
    await asyncio.sleep(0)
    connection.data_received(b"10\r\n0123456789abcdef\r\n")
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(passing, 5)


# Answers with a head that came before

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %b\r\nx-a: 1\r\n\r\n"
FIRST = OK % b"3" + b"abc"
SAID = (200, [("content-type", "text/plain"), ("x-a", "1")], "text/plain")


async def connected() -> tuple[ServerConnection, Pipe]:
    pipe, connection = Pipe(), ServerConnection(lambda _: None)
    connection.connection_made(pipe)
    return connection, pipe


async def exchanged(connection: ServerConnection, pipe: Pipe, pieces: list[bytes]) -> tuple[object, ...]:
    """Return what is said of an answer that comes in these pieces, and whether another one may come."""
    answering = asyncio.create_task(connection.request(b"GET", b"", no_body=False))
    await asyncio.sleep(0)
    for piece in pieces:
        if not pipe.closed:
            connection.data_received(piece)
    if not connection.complete and not pipe.closed:
        connection.eof_received()
    try:
        head = await answering
        said = (head.status, head.headers, head.content_type, await connection.whole())
    except ConnectionBrokenError as error:
        return (str(error), connection.release())
    return (*said, connection.release())


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
    answer = OK % length + body + more
    for cut_at in range(len(answer) + 1):
        pieces = [piece for piece in (answer[:cut_at], answer[cut_at:]) if piece]
        again, pipe = await connected()
        assert await exchanged(again, pipe, [FIRST]) == (*SAID, b"abc", True)
        assert await exchanged(again, pipe, pieces) == await exchanged(*await connected(), pieces), pieces


async def test_an_unread_body_does_not_block_the_next_response() -> None:
    connection, pipe = await connected()
    answering = asyncio.create_task(connection.request(b"GET", b"", no_body=False))
    await asyncio.sleep(0)
    connection.data_received(OK % b"%d" % (2 * MAX_WAITING_BYTES) + b"x" * 2 * MAX_WAITING_BYTES)
    await answering
    assert connection.release()
    assert await exchanged(connection, pipe, [OK[:20], OK[20:] % b"2" + b"hi"]) == (*SAID, b"hi", True)
    assert pipe.pauses == 1

"""What a hostile model server answers, and what its client must get."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from router.clients import COMPLETION, event

if TYPE_CHECKING:
    from router.harness import IncomingRequest

BODY = json.dumps(COMPLETION).encode()
OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"content-type: application/json\r\n"
WHOLE_HEAD = JSON + b"content-length: %d\r\n\r\n" % len(BODY)
WHOLE = WHOLE_HEAD + BODY
CHUNKED_HEAD = JSON + b"transfer-encoding: chunked\r\n\r\n"
STREAM_HEAD = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
HELLO, STOP = event("hello"), event(None, "stop")
FORGED = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"

# What the client gets: the whole body; a status without a body; a status that is passed on; an HTTP error; a
# stream that ends properly; one that ends with an error event. Or it has left.
Outcome = Literal["whole", "empty", "odd", "error", "stream", "cut", "left"]
End = Literal["close", "reset", "stay", "flood", "late"]


@dataclass(frozen=True)
class Case:
    """One answer.

    Attributes:
        pieces: what the server sends, one after the other.
        wants_stream: what the client asked for.
        end: what the server does then; `flood` repeats the last piece until the router has left, `late` sends
            the last piece once the client has its answer.
        body: that the client gets; empty if any.
    """

    name: str
    pieces: tuple[bytes, ...]
    outcome: Outcome
    wants_stream: bool = False
    end: End = "close"
    body: bytes = b""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(name: str, *pieces: bytes, outcome: Outcome, end: End = "close", body: bytes = b"") -> Case:
    """Return a case of a stream whose head is in order."""
    return Case(name, (STREAM_HEAD, *pieces), outcome, wants_stream=True, end=end, body=body)


def whole(name: str, *pieces: bytes, outcome: Outcome = "error", end: End = "close") -> Case:
    return Case(name, pieces, outcome, end=end, body=BODY if outcome == "whole" else b"")


def for_both(name: str, *pieces: bytes, end: End = "close") -> tuple[Case, Case]:
    """Return an answer that is an error whatever the client asked for."""
    return (
        Case(f"{name}, to a request", pieces, "error", end=end),
        Case(f"{name}, to a request for a stream", pieces, "error", wants_stream=True, end=end),
    )


async def send(case: Case, request: IncomingRequest) -> None:
    """Answer a request as the case says."""
    pieces = case.pieces[:-1] if case.end == "late" else case.pieces
    for piece in pieces:
        await request.send(piece)
    while case.end == "flood":  # ends with the ConnectionError once the router has left
        await request.send(case.pieces[-1])
    if case.end == "close":
        request.close()
    elif case.end == "reset":
        request.reset()

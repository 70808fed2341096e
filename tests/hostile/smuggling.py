"""What a client sends to smuggle a request, and how it must be read."""

from __future__ import annotations

from dataclasses import dataclass

from router.raw_http import CHAT, CHUNKED, chunked_body, request_head

SMUGGLED = b"GET /upstream/plan/smuggled HTTP/1.1\r\nhost: localhost\r\nx-smuggled: 1\r\n\r\n"
LAST = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"  # ends the connection
LENGTH = f"content-length: {len(CHAT)}"
CHUNKS = chunked_body(CHAT, 5)


@dataclass(frozen=True)
class Case:
    """What a client sends, and how it is to be read.

    Attributes:
        sent: its bytes; `LAST` follows, unless they are to be incomplete.
        statuses: of the responses, the one to `LAST` included if the connection still exists then.
        forwarded: bodies of the requests that the model server gets.
        header: name and value of a header that it gets with them; None if it must not get it.
    """

    name: str
    sent: bytes
    statuses: tuple[int, ...] = (400,)
    forwarded: tuple[bytes, ...] = ()
    header: tuple[str, str | None] | None = None

    @property
    def end(self) -> bytes:
        return b"" if 408 in self.statuses else LAST


def refused(name: str, sent: bytes, status: int = 400) -> Case:
    return Case(name, sent, (status,))


def forwarded(name: str, sent: bytes, *bodies: bytes, header: tuple[str, str | None] | None = None) -> Case:
    bodies = bodies or (CHAT,)
    return Case(name, sent, (*(200 for _ in bodies), 200), bodies, header)


def chat(*lines: str) -> bytes:
    """Return a chat request with these lines in its head, and the framing that they do not change."""
    return request_head(*lines, LENGTH) + CHAT


def chunked(*lines: str) -> bytes:
    return request_head(*lines, CHUNKED) + CHUNKS


def raw(*lines: bytes) -> bytes:
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n" + b"\r\n".join((*lines, b"", b""))

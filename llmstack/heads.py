"""Heads of HTTP messages that were read: most that follow are the same but for the length of their body."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

MOST_BYTES = 4096  # of a head that is kept
_LENGTH_DIGITS = 19  # more may not fit into 64 bits, which is for the parser to judge
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,%d})(?=\r\n)" % _LENGTH_DIGITS, re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SeenHead(Generic[T]):
    """A head that a parser has read.

    Attributes:
        before: its bytes up to the digits of its Content-Length; `after` those behind them, to its end.
        said: what the parser made of it.
    """

    before: bytes
    after: bytes
    said: T

    def like(self, data: bytes) -> tuple[int, int] | None:
        """Return the length of the body, and where it begins, of a message with the same head; else None."""
        if not data.startswith(self.before):
            return None
        start = len(self.before)
        end = data.find(b"\r", start, start + _LENGTH_DIGITS + 1)
        digits = data[start:end]
        if end < 0 or not data.startswith(self.after, end) or not digits.isdigit():
            return None
        return int(digits), end + len(self.after)


def seen(data: bytes, said: T) -> SeenHead[T] | None:
    """Return the head that `data` begins with; None where another with these bytes may mean something else.

    Args:
        data: from the first byte of a message that a parser took.
        said: what it made of its head.
    """
    end = data.find(b"\r\n\r\n", 0, MOST_BYTES)
    if end < 0 or not data[:1].isalpha():  # parsers pass over line breaks before a message
        return None
    head = data[: end + 4]
    lengths = list(_LENGTH.finditer(head))
    breaks = head.count(b"\r\n")
    if len(lengths) != 1 or head.count(b"\r") != breaks or head.count(b"\n") != breaks:
        return None
    start, stop = lengths[0].span(1)
    return SeenHead(head[:start], head[stop:], said)

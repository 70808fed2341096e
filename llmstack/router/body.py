"""Edits of a JSON body that leave the rest of it as the client sent it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')
_KEY = re.compile(rb'"model"\s*:')
_ESCAPED_LETTER = re.compile(rb"\\u006")  # every letter of `model` is \u006x: the key may be spelled so
_SPACE = re.compile(r"[ \t\r\n]*")
_EMPTY = re.compile(rb"\s*\{\s*\}")
# Numbers stay text: Python refuses to convert very long ones.
_VALUE = json.JSONDecoder(parse_int=str, parse_float=str)


def with_model(body: bytes, current: str | None, model: str) -> bytes:
    """Return a JSON object with its top-level `model` set to another name, added where it is absent.

    Every other byte stays as it is. Of a `model` that is there twice, both are set.

    Args:
        body: a valid JSON object.
        current: the value that its top-level `model` has; None where it is absent or null.
        model: the new value.

    Raises:
        RecursionError: the body is nested too deeply.
    """
    value = json.dumps(model).encode()
    if _ESCAPED_LETTER.search(body) is None:
        if current is None and _KEY.search(body) is None:
            return _with_member(body, value)
        found = list(_MODEL.finditer(body))
        if current is not None and len(found) == 1 and _spells(found[0][1], current):
            # There is no other such member, so it is the top-level one. Quotes in strings are escaped.
            start, end = found[0].span(1)
            return b"".join((body[:start], value, body[end:]))
    return _with_members(body, value)


def _spells(literal: bytes, text: str) -> bool:
    return literal == json.dumps(text).encode() or json.loads(literal) == text


def _with_member(body: bytes, value: bytes) -> bytes:
    """Add a `model` to an object that has none."""
    start = body.index(b"{") + 1
    comma = b"" if _EMPTY.match(body) else b","
    return b"".join((body[:start], b'"model":', value, comma, body[start:]))


def _with_members(body: bytes, value: bytes) -> bytes:
    """Set every top-level `model`, found by reading the object member by member."""
    # A string may hold bytes that are no UTF-8; engines judge them, here they only pass.
    text = body.decode(errors="surrogateescape")
    pieces, end = [], 0
    for start, stop in _spans(text, "model"):
        pieces += [text[end:start], value.decode()]
        end = stop
    if not pieces:
        return _with_member(body, value)
    return "".join([*pieces, text[end:]]).encode(errors="surrogateescape")


def _spans(text: str, wanted: str) -> Iterator[tuple[int, int]]:
    """Yield where the values of this top-level member start and end."""
    at = _after_space(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = _VALUE.raw_decode(text, at)
        at = _after_space(text, _after_space(text, at) + 1)  # the colon
        start = at
        _, at = _VALUE.raw_decode(text, at)
        if name == wanted:
            yield start, at
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at

"""Edits of a JSON body that leave every other byte as the client sent it."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Parts = tuple[bytes | memoryview, ...]  # of a body, in order

# A `model` with only plain members before it, which is where most clients put it.
_LEADING_MODEL = re.compile(
    rb"""\s*\{\s*(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,\s*)*?"model"\s*:\s*("[^"\\]*")"""
)
LEADING_BYTES = 4096  # in which a leading `model` is searched
_NAME = re.compile(rb"""[\s,{]*("(?:[^"\\]|\\.)*")\s*:\s*""")
_END = re.compile(rb"[\s{]*\}\s*")
_SPACE = re.compile(r"[ \t\r\n]*")
_EMPTY_OBJECT = re.compile(rb"\s*\{\s*\}")
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
# Numbers stay text: Python refuses to convert very long ones.
_VALUE = json.JSONDecoder(parse_int=str, parse_float=str)


def set_model(body: bytes, current: str | None, model: str, slot: int | None = None) -> Parts:
    """Return a JSON object with its top-level `model` set, or added if it is missing.

    If the object has two members `model` with different values, both are set.

    Args:
        body: a valid JSON object.
        current: the present value of its top-level `model`; None if it is missing or null.
        model: the new value.
        slot: an `id_slot` (a slot of llama.cpp's server) to add; the object must not have one.

    Returns:
        The object in parts: what follows a leading `model` is not copied.

    Raises:
        RecursionError: the body is nested too deeply.
    """
    value = _json_string(model)
    match = _match_leading_model(body, current)
    if match is not None:
        start, end = match.span(1)
        first = body.index(b"{") + 1
        added = b"" if slot is None else b'"id_slot":%d,' % slot
        return b"".join((body[:first], added, body[first:start], value)), memoryview(body)[end:]
    if current != model:
        body = _set_member(body, "model", value)
    return (body if slot is None else _add_member(body, "id_slot", b"%d" % slot),)


def has_leading_model(body: bytes, current: str | None) -> bool:
    """Return whether `set_model` need not decode an object whose `model` is `current`."""
    return _match_leading_model(body, current) is not None


def _match_leading_model(body: bytes, current: str | None) -> re.Match[bytes] | None:
    match = _LEADING_MODEL.match(body, 0, LEADING_BYTES)
    if match is None or current is None or match[1] != f'"{current}"'.encode():
        return None
    return match


@lru_cache(maxsize=64)
def _json_string(text: str) -> bytes:
    return json.dumps(text).encode()


def set_slot(body: bytes, slot: int) -> bytes:
    """Return a JSON object with its top-level `id_slot` (a slot of llama.cpp's server) set.

    Args:
        body: a valid JSON object.
        slot: the new value.

    Raises:
        RecursionError: the body is nested too deeply.
    """
    return _set_member(body, "id_slot", b"%d" % slot)


def _set_member(body: bytes, name: str, value: bytes) -> bytes:
    spans = _value_spans(body, name)
    if spans is None:
        return _set_member_slowly(body, name, value)
    if not spans:
        return _add_member(body, name, value)
    pieces, position = [], 0
    for start, end in spans:
        pieces += [body[position:start], value]
        position = end
    return b"".join([*pieces, body[position:]])


def _value_spans(body: bytes, member: str) -> list[tuple[int, int]] | None:
    """Return where the values of this top-level member start and end.

    A parser in C tells how long each value is, so that values are skipped at its speed; of a name that occurs
    twice it tells only the last value. None if that does not lead to the end of the object.
    """
    try:
        values = _MEMBERS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    spans, position = [], 0
    while (match := _NAME.match(body, position)) is not None:
        try:
            name = _STRING.decode(match[1])
            value = bytes(values[name])
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
            return None
        position = match.end()
        if not body.startswith(value, position):
            return None
        if name == member:
            spans.append((position, position + len(value)))
        position += len(value)
    return spans if _END.fullmatch(body, position) else None


def _add_member(body: bytes, name: str, value: bytes) -> bytes:
    """Add a member to an object that does not have it."""
    start = body.index(b"{") + 1
    comma = b"" if _EMPTY_OBJECT.match(body) else b","
    return b"".join((body[:start], f'"{name}":'.encode(), value, comma, memoryview(body)[start:]))


def _set_member_slowly(body: bytes, name: str, value: bytes) -> bytes:
    """Set every top-level member of that name by reading the object member by member."""
    # A string may hold bytes that are not UTF-8: the engine judges them.
    text = body.decode(errors="surrogateescape")
    pieces, position = [], 0
    for start, end in _value_spans_in_text(text, name):
        pieces += [text[position:start], value.decode()]
        position = end
    if not pieces:
        return _add_member(body, name, value)
    return "".join([*pieces, text[position:]]).encode(errors="surrogateescape")


def _value_spans_in_text(text: str, member: str) -> Iterator[tuple[int, int]]:
    """Yield where the values of this top-level member start and end."""
    position = _skip_space(text, text.index("{") + 1)
    while text[position] != "}":
        name, position = _VALUE.raw_decode(text, position)
        position = _skip_space(text, _skip_space(text, position) + 1)  # the colon
        start = position
        _, position = _VALUE.raw_decode(text, position)
        if name == member:
            yield start, position
        position = _skip_space(text, position)
        if text[position] == ",":
            position = _skip_space(text, position + 1)


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def add_members(body: bytes, values: Mapping[str, float], one_of: frozenset[str] = frozenset()) -> bytes:
    """Return a JSON object with the members that it does not have yet.

    Args:
        body: a valid JSON object.
        values: by name. A member that is null counts as sent: the server decides what it means.
        one_of: names that exclude each other: one is added only if the object has none of them.

    Raises:
        RecursionError: the body is nested too deeply.
    """
    if not values:
        return body
    present = _member_names(body)
    added = {name: value for name, value in values.items() if name not in present}
    if one_of & present:
        added = {name: value for name, value in added.items() if name not in one_of}
    if not added:
        return body
    start = body.index(b"{") + 1
    comma = b"" if _EMPTY_OBJECT.match(body) else b","
    members = json.dumps(added, separators=(",", ":"))[1:-1].encode()
    return b"".join((body[:start], members, comma, body[start:]))


def _member_names(body: bytes) -> frozenset[str]:
    """Return the names of an object's top-level members."""
    try:
        return frozenset(_MEMBERS.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError):  # as above: bytes that are not UTF-8
        return frozenset(json.loads(body.decode(errors="surrogateescape"), parse_int=str, parse_float=str))

"""Edits of a JSON body that leave the rest of it as the client sent it."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Parts = tuple[bytes | memoryview, ...]  # of a body, in their order

# A `model` with nothing but plain members before it, where most clients put it.
_LEADING = re.compile(
    rb"""\s*\{\s*(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,\s*)*?"model"\s*:\s*("[^"\\]*")"""
)
LEADING_BYTES = 4096  # in which it is looked for
_NAME = re.compile(rb"""[\s,{]*("(?:[^"\\]|\\.)*")\s*:\s*""")
_END = re.compile(rb"[\s{]*\}\s*")
_SPACE = re.compile(r"[ \t\r\n]*")
_EMPTY = re.compile(rb"\s*\{\s*\}")
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
# Numbers stay text: Python refuses to convert very long ones.
_VALUE = json.JSONDecoder(parse_int=str, parse_float=str)


def renamed(body: bytes, current: str | None, model: str, slot: int | None = None) -> Parts:
    """Return a JSON object with its top-level `model` set to another name, added where it is absent.

    Every other byte stays as it is. Of a `model` that is there twice with different values, both are set.

    Args:
        body: a valid JSON object.
        current: the value that its top-level `model` has; None where it is absent or null.
        model: the new value.
        slot: an `id_slot` to add, which names a slot of llama.cpp's server; the object has none.

    Returns:
        It in parts: what follows a `model` at the beginning, where most clients have it, is not copied.

    Raises:
        RecursionError: the body is nested too deeply.
    """
    value = _quoted(model)
    found = _LEADING.match(body, 0, LEADING_BYTES)
    if found is not None and current is not None and found[1] == f'"{current}"'.encode():
        start, end = found.span(1)
        first = body.index(b"{") + 1
        added = b"" if slot is None else b'"id_slot":%d,' % slot
        return b"".join((body[:first], added, body[first:start], value)), memoryview(body)[end:]
    if current != model:
        body = _with(body, "model", value)
    return (body if slot is None else _with_member(body, "id_slot", b"%d" % slot),)


@lru_cache(maxsize=64)
def _quoted(model: str) -> bytes:
    return json.dumps(model).encode()


def with_slot(body: bytes, slot: int) -> bytes:
    """Return a JSON object with its top-level `id_slot` set, which names a slot of llama.cpp's server.

    Every other byte stays as it is.

    Args:
        body: a valid JSON object.
        slot: the new value.

    Raises:
        RecursionError: the body is nested too deeply.
    """
    return _with(body, "id_slot", b"%d" % slot)


def _with(body: bytes, member: str, value: bytes) -> bytes:
    spans = _member_spans(body, member)
    if spans is None:
        return _with_members(body, member, value)
    if not spans:
        return _with_member(body, member, value)
    pieces, at = [], 0
    for start, end in spans:
        pieces += [body[at:start], value]
        at = end
    return b"".join([*pieces, body[at:]])


def _member_spans(body: bytes, member: str) -> list[tuple[int, int]] | None:
    """Return where the values of this top-level member start and end.

    The values are skipped at the speed of a parser in C, which says how long each is, but of a name that is
    there twice only the last one. None where that leads astray.
    """
    try:
        values = _MEMBERS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    spans, at = [], 0
    while (name := _NAME.match(body, at)) is not None:
        try:
            key = _STRING.decode(name[1])
            value = bytes(values[key])
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
            return None
        at = name.end()
        if not body.startswith(value, at):
            return None
        if key == member:
            spans.append((at, at + len(value)))
        at += len(value)
    return spans if _END.fullmatch(body, at) else None


def _with_member(body: bytes, name: str, value: bytes) -> bytes:
    """Add a member to an object that has none of that name."""
    start = body.index(b"{") + 1
    comma = b"" if _EMPTY.match(body) else b","
    return b"".join((body[:start], f'"{name}":'.encode(), value, comma, memoryview(body)[start:]))


def _with_members(body: bytes, name: str, value: bytes) -> bytes:
    """Set every top-level member of that name, found by reading the object member by member."""
    # A string may hold bytes that are no UTF-8; engines judge them, here they only pass.
    text = body.decode(errors="surrogateescape")
    pieces, end = [], 0
    for start, stop in _spans(text, name):
        pieces += [text[end:start], value.decode()]
        end = stop
    if not pieces:
        return _with_member(body, name, value)
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


def with_defaults(body: bytes, values: Mapping[str, float], one_of: frozenset[str] = frozenset()) -> bytes:
    """Return a JSON object with members added that it does not have; every byte that was there stays.

    Args:
        body: a valid JSON object.
        values: by name. One that is there as null counts as sent: what it means is for the server to say.
        one_of: names that exclude each other: one is added only where none of them is there.

    Raises:
        RecursionError: the body is nested too deeply.
    """
    if not values:
        return body
    sent = _top_level(body)
    added = {name: value for name, value in values.items() if name not in sent}
    if one_of & sent:
        added = {name: value for name, value in added.items() if name not in one_of}
    if not added:
        return body
    start = body.index(b"{") + 1
    comma = b"" if _EMPTY.match(body) else b","
    members = json.dumps(added, separators=(",", ":"))[1:-1].encode()
    return b"".join((body[:start], members, comma, body[start:]))


def _top_level(body: bytes) -> frozenset[str]:
    """Return the names of the members of an object."""
    try:
        return frozenset(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeDecodeError):  # as above: bytes that are no UTF-8 only pass
        return frozenset(json.loads(body.decode(errors="surrogateescape"), parse_int=str, parse_float=str))

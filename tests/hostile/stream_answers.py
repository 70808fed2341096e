"""Streams of events that mean harm: cut, endless, nested, in odd pieces."""

from __future__ import annotations

from hostile.answers import (
    CHUNKED_HEAD,
    HELLO,
    JSON,
    LAST_CHUNK,
    OK,
    STOP,
    WHOLE,
    Case,
    chunk,
    stream,
)
from router.clients import DONE, USAGE, event

_PROPER_END = (chunk(STOP), chunk(DONE), LAST_CHUNK)
_EURO = event("\u20ac").replace(rb"\u20ac", "\u20ac".encode())
_EURO_AT = _EURO.index("\u20ac".encode()) + 1

_STREAMS = (
    stream(
        "a letter in two chunks",
        chunk(_EURO[:_EURO_AT]),
        chunk(_EURO[_EURO_AT:]),
        *_PROPER_END,
        outcome="stream",
        body=_EURO + STOP + DONE,
    ),
    stream(
        "a letter in two pieces of a chunk",
        chunk(_EURO)[: _EURO_AT + 4],
        chunk(_EURO)[_EURO_AT + 4 :],
        *_PROPER_END,
        outcome="stream",
        body=_EURO + STOP + DONE,
    ),
    stream("half a letter at the end", chunk(_EURO), chunk(_EURO[:_EURO_AT]), LAST_CHUNK, outcome="cut"),
    stream(
        "events of a byte each",
        *(chunk(bytes((byte,))) for byte in HELLO + STOP + DONE),
        LAST_CHUNK,
        outcome="stream",
        body=HELLO + STOP + DONE,
    ),
    stream("no UTF-8", chunk(b"data: \xff\xfe\n\n"), *_PROPER_END, outcome="stream"),
    stream("zero bytes", chunk(b"data: \0\0\n\n"), *_PROPER_END, outcome="stream"),
    stream(
        "lines that end with a carriage return",
        chunk(HELLO.replace(b"\n", b"\r")),
        *_PROPER_END,
        outcome="stream",
    ),
    stream("lines that end with both", chunk(HELLO.replace(b"\n", b"\r\n")), *_PROPER_END, outcome="stream"),
    stream(
        "no line break at the end", chunk(HELLO), chunk(STOP), chunk(DONE[:-2]), LAST_CHUNK, outcome="stream"
    ),
    stream("only comments", chunk(b": hello\n\n") * 50, LAST_CHUNK, outcome="error"),
    stream("only line breaks", chunk(b"\n") * 5000, LAST_CHUNK, outcome="error"),
    stream("nothing", LAST_CHUNK, outcome="error"),
    stream("only the closing mark", chunk(DONE), LAST_CHUNK, outcome="cut"),
    stream("the closing mark without a finish reason", chunk(HELLO), chunk(DONE), LAST_CHUNK, outcome="cut"),
    stream("the end without a finish reason", chunk(HELLO), LAST_CHUNK, outcome="cut"),
    stream(
        "two closing marks", chunk(HELLO), chunk(STOP), chunk(DONE), chunk(DONE), LAST_CHUNK, outcome="stream"
    ),
    stream(
        "events after the end",
        chunk(HELLO),
        chunk(STOP),
        chunk(DONE),
        chunk(HELLO),
        LAST_CHUNK,
        outcome="stream",
    ),
    stream("an error first", chunk(b'data: {"error":{"message":"no"}}\n\n'), LAST_CHUNK, outcome="error"),
    stream(
        "an error of odd types first", chunk(b'data: {"error":[[null]]}\n\n'), LAST_CHUNK, outcome="error"
    ),
    stream(
        "an error nested a hundred thousand times first",
        chunk(b'data: {"error":' + b"[" * 100_000 + b"\n\n"),
        LAST_CHUNK,
        outcome="error",
    ),
    stream(
        "an error in the middle",
        chunk(HELLO),
        chunk(b'data: {"error":{"message":"no"}}\n\n'),
        LAST_CHUNK,
        outcome="cut",
    ),
    stream(
        "events nested a hundred thousand times",
        chunk(HELLO),
        chunk(b"data: " + b"[" * 100_000 + b"\n\n"),
        *_PROPER_END,
        outcome="stream",
    ),
    stream(
        "usage of odd types",
        chunk(HELLO),
        chunk(USAGE.replace(b"3", b'"x"')),
        chunk(USAGE.replace(b"3", b"-1")),
        *_PROPER_END,
        outcome="stream",
    ),
    stream(
        "usage beyond 64 bits",
        chunk(HELLO),
        chunk(USAGE.replace(b"3", b"9" * 400)),
        *_PROPER_END,
        outcome="stream",
    ),
    stream(
        "usage a hundred thousand times", chunk(HELLO), chunk(USAGE * 1000), *_PROPER_END, outcome="stream"
    ),
    stream(
        "braces without end in usage",
        chunk(HELLO),
        chunk(b'data: {"usage":' + b"{" * 20_000 + b"\n\n"),
        *_PROPER_END,
        outcome="stream",
    ),
    stream("an event of a megabyte", chunk(event("x" * 1_000_000)), *_PROPER_END, outcome="stream"),
    Case(
        "a stream with a length that is too long",
        (OK + b"content-type: text/event-stream\r\ncontent-length: 99999\r\n\r\n" + HELLO,),
        "cut",
        wants_stream=True,
    ),
    Case(
        "a stream with a length that is too short",
        (
            OK
            + b"content-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(HELLO)
            + HELLO
            + STOP
            + DONE,
        ),
        "cut",
        wants_stream=True,
        end="stay",
    ),
    Case(
        "a stream without a length",
        (OK + b"content-type: text/event-stream\r\n\r\n" + HELLO + STOP + DONE,),
        "stream",
        wants_stream=True,
    ),
    Case(
        "a stream of HTTP/1.0",
        (b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + HELLO + STOP + DONE,),
        "stream",
        wants_stream=True,
    ),
)
# The client leaves in the middle of them.
_ENDLESS = (
    Case("a body without end", (JSON + b"\r\n", b"x" * 65_536), "left", end="flood"),
    Case("chunks without end", (CHUNKED_HEAD, chunk(b"x" * 65_536)), "left", end="flood"),
    stream("events without end", chunk(event("x" * 1000)), outcome="left", end="flood"),
    stream("one event without end", chunk(b"data: "), chunk(b"x" * 65_536), outcome="left", end="flood"),
    stream("comments without end", chunk(b": x\n\n" * 10_000), outcome="left", end="flood"),
    stream("line breaks without end", chunk(b"\n" * 60_000), outcome="left", end="flood"),
    stream("chunks of a byte without end", chunk(HELLO), chunk(b"x") * 10_000, outcome="left", end="flood"),
    stream("a chunk extension without end", b"5;", b"x" * 65_536, outcome="left", end="flood"),
    stream(
        "trailers without end", chunk(HELLO) + b"0\r\n", b"x: y\r\n" * 10_000, outcome="left", end="flood"
    ),
    stream("nothing after an event", chunk(HELLO), outcome="left", end="stay"),
    Case("nothing", (b"",), "left", end="stay"),
    Case("half a head", (OK,), "left", end="stay"),
    Case("half a body", (WHOLE[:-5],), "left", end="stay"),
)
STREAMS: tuple[Case, ...] = (*_STREAMS, *_ENDLESS)

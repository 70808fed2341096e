"""Answers that are HTTP and mean harm: second answers, endless streams, headers that are not theirs."""

from __future__ import annotations

from hostile.answers import (
    BODY,
    CHUNKED_HEAD,
    FORGED,
    HELLO,
    JSON,
    LAST_CHUNK,
    STOP,
    STREAM_HEAD,
    WHOLE,
    Case,
    chunk,
    stream,
    whole,
)
from router.clients import DONE, event

_PROPER_END = (chunk(STOP), chunk(DONE), LAST_CHUNK)
TYPE = b"content-type: application/json"


def _answer(status: bytes, body: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, b"content-length: %d" % len(body), b"", body))


_SECOND_ANSWERS = (
    whole("a second answer at once", WHOLE + FORGED, outcome="whole", end="stay"),
    whole("a second answer in the next piece", WHOLE, FORGED, outcome="whole", end="stay"),
    whole("a second answer while nothing is asked", WHOLE, FORGED, outcome="whole", end="late"),
    whole("half a second answer while nothing is asked", WHOLE, FORGED[:30], outcome="whole", end="late"),
    whole("a line break while nothing is asked", WHOLE, b"\r\n", outcome="whole", end="late"),
    whole(
        "a second answer after chunks",
        CHUNKED_HEAD + chunk(BODY) + LAST_CHUNK + FORGED,
        outcome="whole",
        end="stay",
    ),
    whole(
        "a second answer after one without a body",
        b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED,
        outcome="empty",
        end="stay",
    ),
    whole(
        "a body after 304",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 6\r\n\r\nforged",
        outcome="empty",
        end="stay",
    ),
    whole(
        "a body after 204",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 6\r\n\r\nforged",
        outcome="empty",
        end="stay",
    ),
    whole("a body longer than its length", WHOLE + b"rest", outcome="whole", end="stay"),
    whole(
        "an answer in the trailers",
        CHUNKED_HEAD + chunk(BODY) + b"0\r\nx-evil: 1\r\n\r\n",
        outcome="whole",
        end="stay",
    ),
    whole(
        "an answer after 100 Continue", b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, outcome="whole", end="stay"
    ),
    whole(
        "an answer after three 103",
        b"HTTP/1.1 103 Early Hints\r\nx-evil: 1\r\n\r\n" * 3 + WHOLE,
        outcome="whole",
        end="stay",
    ),
    stream(
        "a second answer after a stream", chunk(HELLO), *_PROPER_END, FORGED, outcome="stream", end="stay"
    ),
    stream(
        "a second answer late after a stream",
        chunk(HELLO),
        *_PROPER_END,
        FORGED,
        outcome="stream",
        end="late",
    ),
    stream(
        "a second stream",
        chunk(HELLO),
        *_PROPER_END,
        STREAM_HEAD + chunk(event("forged")),
        outcome="stream",
        end="stay",
    ),
)
_HEADERS = (
    ("its own tier", b"x-llmstack-tier: evil\r\nx-llmstack-evil: 1"),
    (
        "permission for other pages",
        b"access-control-allow-origin: *\r\naccess-control-allow-credentials: true",
    ),
    ("headers named by Connection", b"connection: x-evil, close\r\nx-evil: 1"),
    ("another server and date", b"server: evil\r\ndate: never"),
    ("proxy authentication", b"proxy-authenticate: Basic"),
    ("an Upgrade", b"upgrade: h2c"),
    ("bytes beyond ASCII", b"x-kept: caf\xe9 \x85 \xff"),
    ("a long header", b"x-kept: " + b"y" * 60_000),
    ("a thousand headers", b"\r\n".join(b"x-kept-%d: y" % number for number in range(1000))),
    ("a trailer that is announced", b"trailer: x-evil"),
    ("a price that is no number", b"x-litellm-response-cost: nan"),
    ("a price of minus infinity", b"x-litellm-response-cost: -inf"),
    ("an endless price", b"x-litellm-response-cost: " + b"9" * 5000),
    ("a pause of a century", b"retry-after: 9999999999"),
    ("a pause without a number", b"retry-after: \xff"),
    ("a type with a line of events", b"x-kept: data: evil"),
)
_ODD_HEADERS = (
    case
    for name, lines in _HEADERS
    for case in (
        whole(f"in the head {name}", _answer(b"200 OK", BODY, TYPE, lines), outcome="whole", end="stay"),
        Case(
            f"in the head of a stream {name}",
            (STREAM_HEAD[:-2] + lines + b"\r\n\r\n", chunk(HELLO), *_PROPER_END),
            "stream",
            wants_stream=True,
        ),
    )
)
_STATUSES = (
    *(
        Case(
            f"a status of {status} to a request{' for a stream' if wants_stream else ''}",
            (_answer(b"%d Odd" % status, b'{"odd":1}', TYPE),),
            "error",
            wants_stream=wants_stream,
            end="stay",
        )
        for status in (400, 401, 403, 404, 407, 418, 429, 451, 499, 500, 502, 503, 529, 599, 999)
        for wants_stream in (False, True)
    ),
    whole(
        "a redirect to another host",
        _answer(b"302 Found", b"", b"location: http://evil.example/"),
        outcome="odd",
        end="stay",
    ),
    whole("an error page", _answer(b"500 Oh", b"<html>" * 500, b"content-type: text/html"), end="stay"),
    whole("an error without a body", _answer(b"500 Oh", b""), end="stay"),
    whole("an error that is no UTF-8", _answer(b"500 Oh", b"\xff\xfe" * 500), end="stay"),
    whole("an error nested a hundred thousand times", _answer(b"500 Oh", b"[" * 100_000), end="stay"),
    whole("an error of odd types", _answer(b"500 Oh", b'{"error":[null,{"message":7}]}'), end="stay"),
    whole(
        "an error with a message of a megabyte",
        _answer(b"500 Oh", b'{"error":{"message":"' + b"x" * 1_000_000 + b'"}}', TYPE),
        end="stay",
    ),
    whole(
        "an error with escapes",
        _answer(b"500 Oh", b'{"error":{"message":"\\u001b[2J\\r\\nx: y"}}', TYPE),
        end="stay",
    ),
)
_BODIES = (
    whole(
        "HTTP/1.0 without a length",
        b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + BODY,
        outcome="whole",
    ),
    whole("HTTP/1.1 without a length", JSON + b"\r\n" + BODY, outcome="whole"),
    whole(
        "chunks of a byte each",
        CHUNKED_HEAD,
        *(chunk(BODY[at : at + 1]) for at in range(len(BODY))),
        LAST_CHUNK,
        outcome="whole",
        end="stay",
    ),
    whole(
        "chunks with extensions",
        CHUNKED_HEAD,
        b'%x;a=b;c="d"\r\n%b\r\n' % (len(BODY), BODY),
        LAST_CHUNK,
        outcome="whole",
        end="stay",
    ),
    Case("JSON instead of a stream", (WHOLE,), "error", wants_stream=True, end="stay"),
    Case(
        "an empty answer instead of a stream",
        (_answer(b"200 OK", b""),),
        "error",
        wants_stream=True,
        end="stay",
    ),
    Case(
        "204 instead of a stream",
        (b"HTTP/1.1 204 No Content\r\n\r\n",),
        "error",
        wants_stream=True,
        end="stay",
    ),
    Case("a stream instead of JSON", (STREAM_HEAD, chunk(HELLO), *_PROPER_END), "stream", end="stay"),
    *(
        Case(f"as an answer {name}", (_answer(b"200 OK", body, TYPE),), "whole", end="stay", body=body)
        for name, body in (
            ("no JSON", b"<html>"),
            ("no UTF-8", b"\xff\xfe\x00"),
            ("JSON nested a hundred thousand times", b"[" * 100_000),
            ("usage of odd types", b'{"usage":{"prompt_tokens":"many","completion_tokens":[1e999]}}'),
            ("usage beyond 64 bits", b'{"usage":{"prompt_tokens":' + b"9" * 400 + b"}}"),
            ("usage below 0", b'{"usage":{"prompt_tokens":-5,"completion_tokens":-1}}'),
            ("a list", b"[1,2,3]"),
            ("null", b"null"),
        )
    ),
)
ODD: tuple[Case, ...] = (*_SECOND_ANSWERS, *_ODD_HEADERS, *_STATUSES, *_BODIES)

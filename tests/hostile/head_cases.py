"""Heads that two servers could read in different ways, requests in a row, and values that become lines."""

from __future__ import annotations

from hostile.smuggling import CHUNKS, LENGTH, SMUGGLED, Case, chat, chunked, forwarded, raw, refused
from router.harness import ENGINE_KEY
from router.raw_http import CHAT, CHUNKED, chunked_body, request_head

OUR_KEY = ("authorization", f"Bearer {ENGINE_KEY}")
TWO_LINES = rb'{"model":"plan\r\nx-smuggled: 1","messages":[{"role":"user","content":"x"}]}'
HEADS = (
    refused("bare line feeds", b"POST /v1/chat/completions HTTP/1.1\nhost: localhost\n\n"),
    refused("a bare line feed after the first line", b"GET /health HTTP/1.1\nhost: localhost\r\n\r\n"),
    refused("a bare line feed between headers", b"GET /health HTTP/1.1\r\nhost: localhost\nx: y\r\n\r\n"),
    refused("a bare line feed at the end", b"GET /health HTTP/1.1\r\nhost: localhost\r\n\n" + SMUGGLED),
    refused(
        "a bare carriage return between headers", b"GET /health HTTP/1.1\r\nhost: localhost\rx: y\r\n\r\n"
    ),
    refused("a bare carriage return in a value", chat("x: a\rb")),
    refused("a folded line", chat("x: a\r\n b")),
    refused("a folded line with a tab", chat("x: a\r\n\tb")),
    refused("a folded first header", b"GET /health HTTP/1.1\r\n host: localhost\r\n\r\n"),
    refused("a zero byte in a value", chat("x: a\0b")),
    refused("a zero byte in a name", chat("x\0y: a")),
    refused("a name with a space", chat("bad name: a")),
    refused("a name with a space before the colon", chat("name : a")),
    refused("an empty name", chat(": a")),
    refused("a line without a colon", chat("no colon")),
    refused("a name with a letter beyond ASCII", chat("n\xe4me: a")),
    refused("a name with a bracket", chat("na(me: a")),
    refused("two hosts", chat("host: other")),
    refused("two equal hosts", chat("host: localhost")),
    refused("a target with a space", request_head("content-length: 0", path="/a b")),
    refused("a target beyond ASCII", request_head(path="/caf\xe9")),
    refused("a target with a tab", request_head(path="/a\tb")),
    refused("a target with a zero byte", request_head(path="/a\0b")),
    refused("a target with a line break", request_head(path="/a\nb")),
    refused("a target without a slash", request_head(path="health")),
    refused("an address of another scheme", request_head(path="ftp://localhost/health")),
    refused("no target", b"GET HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    refused("a tunnel", b"CONNECT example.org:443 HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    refused("an unknown method", b"NONSENSE / HTTP/1.1\r\n\r\n"),
    refused("a method with a line break", b"GE\r\nT /health HTTP/1.1\r\n\r\n"),
    refused("a method in small letters", b"get /health HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    refused("only a method", b"GET\r\n\r\n"),
    refused("HTTP/0.9", b"GET /health\r\n\r\n"),
    refused(
        "HTTP/0.9 with headers",
        b"POST /v1/chat/completions\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}",
    ),
    refused("HTTP/2.0 in the form of HTTP/1.1", b"GET /health HTTP/2.0\r\nhost: localhost\r\n\r\n"),
    refused("HTTP/3.7", b"GET / HTTP/3.7\r\n\r\n"),
    refused("HTTP/1.11", b"GET / HTTP/1.11\r\nhost: localhost\r\n\r\n"),
    refused("HTTP/1,1", b"GET / HTTP/1,1\r\nhost: localhost\r\n\r\n"),
    refused("http/1.1 in small letters", b"GET / http/1.1\r\nhost: localhost\r\n\r\n"),
    refused("something after the version", b"GET / HTTP/1.1 x\r\nhost: localhost\r\n\r\n"),
    refused("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    refused("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("a long target", request_head(path="/" + "x" * 20_000), 414),
    refused("an endless target", b"GET /" + b"x" * 200_000, 414),
    refused("too many headers", request_head(*(f"x-{number}: y" for number in range(200))), 431),
    refused("a long header", request_head("x: " + "y" * 70_000), 431),
    refused("an endless header", request_head()[:-2] + b"x: " + b"y" * 400_000, 431),
    refused("a head that does not end", request_head()[:-2], 408),
)
PIPELINED = (
    forwarded("two requests at once", chat() + chat("x: 2"), CHAT, CHAT),
    forwarded("a request with a length, then one in chunks", chat() + chunked(), CHAT, CHAT),
    forwarded("a request in chunks, then one with a length", chunked() + chat(), CHAT, CHAT),
    forwarded("a line break between requests", chat() + b"\r\n" + chat(), CHAT, CHAT),
    Case(
        "a request in the body is not a request",
        request_head(f"content-length: {len(SMUGGLED)}") + SMUGGLED,
        (400, 200),
    ),
    Case(
        "a request in a chunk is not a request",
        request_head(CHUNKED) + chunked_body(SMUGGLED, 1000),
        (400, 200),
    ),
    Case(
        "a request in the body of a GET is not a request",
        request_head(f"content-length: {len(SMUGGLED)}", method="GET", path="/health") + SMUGGLED,
        (200, 200),
    ),
    Case(
        "a request in the body of a HEAD is not a request",
        request_head(f"content-length: {len(SMUGGLED)}", method="GET", path="/v1/models") + SMUGGLED,
        (200, 200),
    ),
    Case("rubbish after a request", chat() + b"rubbish\r\n\r\n", (200, 400), (CHAT,)),
    Case("a request after one that is refused", chat("no colon") + SMUGGLED, (400,)),
    Case("a request after `connection: close`", chat("connection: close") + SMUGGLED, (200,), (CHAT,)),
    Case(
        "a request after one of HTTP/1.0",
        request_head(LENGTH, version="1.0") + CHAT + SMUGGLED,
        (200,),
        (CHAT,),
    ),
    Case(
        "a request as the body of an Upgrade",
        request_head("upgrade: h2c", "connection: upgrade", f"content-length: {len(SMUGGLED)}") + SMUGGLED,
        (400, 200),
    ),
    refused(
        "an Upgrade with chunks", request_head("upgrade: websocket", "connection: upgrade", CHUNKED) + CHUNKS
    ),
    forwarded("a request that waits for 100 Continue", chat("expect: 100-continue")),
)
# Values that could become lines of their own in the request to the model server.
INJECTED = (
    forwarded(
        "a header with an encoded line break",
        chat("x-kept: a%0d%0ax-smuggled: 1"),
        header=("x-kept", "a%0d%0ax-smuggled: 1"),
    ),
    forwarded(
        "a session with an escaped line break",
        chat("x-session-id: a\\r\\nx-smuggled: 1"),
        header=("x-smuggled", None),
    ),
    forwarded(
        "a line separator of Unicode",
        raw(b"x-kept: a\xe2\x80\xa8x-smuggled: 1", LENGTH.encode()) + CHAT,
        header=("x-smuggled", None),
    ),
    forwarded("next line of latin-1", chat("x-kept: a\x85x-smuggled: 1"), header=("x-smuggled", None)),
    forwarded(
        "a header named by Connection", chat("connection: x-secret", "x-secret: 1"), header=("x-secret", None)
    ),
    forwarded(
        "a host named by Connection", chat("connection: host, content-length, authorization"), header=OUR_KEY
    ),
    forwarded("a key of the client's own", chat("authorization: Bearer theirs"), header=OUR_KEY),
    forwarded(
        "an encoding named by Connection",
        chat("connection: transfer-encoding", "te: trailers"),
        header=("te", None),
    ),
    forwarded(
        "a header for proxies",
        chat("proxy-connection: keep-alive", "keep-alive: 5"),
        header=("proxy-connection", None),
    ),
    forwarded("an expectation", chat("expect: 200-ok"), header=("expect", None)),
    forwarded(
        "settings of HTTP/2",
        chat("http2-settings: AAMAAABkAARAAAAAAAIAAAAA"),
        header=("http2-settings", None),
    ),
    refused(
        "a path with an encoded line break of /upstream, and a real one",
        request_head("content-length: 0", path="/upstream/plan/a\r\nx-smuggled: 1"),
    ),
    Case(
        "a path with an encoded line break",
        request_head("content-length: 0", path="/upstream/plan/a%0d%0ax-smuggled:%201"),
        (200, 200),
        (b"",),
    ),
    Case(
        "a query with an encoded line break",
        request_head("content-length: 0", path="/upstream/plan/a?%0d%0ax-smuggled:%201"),
        (200, 200),
        (b"",),
    ),
    Case(
        "a tier with an encoded line break",
        request_head("content-length: 0", path="/upstream/plan%0d%0a/x"),
        (404, 200),
    ),
    Case(
        "a model with a line break", request_head(f"content-length: {len(TWO_LINES)}") + TWO_LINES, (404, 200)
    ),
)

"""Answers that are no HTTP, or end too early."""

from __future__ import annotations

from hostile.answers import (
    BODY,
    CHUNKED_HEAD,
    HELLO,
    JSON,
    LAST_CHUNK,
    OK,
    STOP,
    WHOLE,
    WHOLE_HEAD,
    Case,
    chunk,
    for_both,
    stream,
    whole,
)
from router.clients import DONE

_NO_HTTP = {
    "TLS": b"\x16\x03\x01\x02\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a web page without a head": b"<html>hello</html>\r\n\r\n",
    "JSON without a head": BODY,
    "a request": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "another protocol in the form of HTTP": b"ICY 200 OK\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version in small letters": b"http/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "an unknown version": b"HTTP/3.7 200 OK\r\ncontent-length: 0\r\n\r\n",
    "a version without a space": b"HTTP/1.1200 OK\r\ncontent-length: 0\r\n\r\n",
    "zero bytes": b"\0" * 5000,
    "a status in letters": b"HTTP/1.1 abc\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 99 Low\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 High\r\ncontent-length: 0\r\n\r\n",
    "a negative status": b"HTTP/1.1 -200 OK\r\ncontent-length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 \r\ncontent-length: 0\r\n\r\n",
    "a change of protocol": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
    "a change of protocol without a name": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
}
_BAD_HEADERS = {
    "a name with a space": b"bad name: x",
    "a space before the colon": b"name : x",
    "an empty name": b": x",
    "a line without a colon": b"no colon",
    "a name beyond ASCII": b"n\xe4me: x",
    "a folded line": b"x: a\r\n b",
    "a zero byte": b"x: a\0b",
    "a bare carriage return": b"x: a\rset-cookie: b",
    "a length and chunks": b"content-length: 5\r\ntransfer-encoding: chunked",
    "two lengths that differ": b"content-length: 5\r\ncontent-length: 6",
    "a list of lengths": b"content-length: 5, 5",
    "a negative length": b"content-length: -5",
    "a length with a plus sign": b"content-length: +5",
    "a length in hexadecimal": b"content-length: 0x5",
    "a length in letters": b"content-length: five",
    "an empty length": b"content-length:",
    "a length beyond 64 bits": b"content-length: 18446744073709551616",
    "a length with a space inside": b"content-length: 5 5",
    "a long header": b"x: " + b"y" * 600_000,
    "a hundred thousand headers": b"\r\n".join([b"x: y"] * 100_000),
    "a long name": b"x" * 600_000 + b": y",
}
_BEFORE_A_BODY = (
    case
    for name, data in _NO_HTTP.items()
    for case in for_both(f"instead of HTTP {name}", data, end="stay" if len(data) > 10 else "close")
)
_HEADERS = (
    case
    for name, line in _BAD_HEADERS.items()
    for case in for_both(f"in the head {name}", OK + line + b"\r\n\r\nhello", end="stay")
)
_FLOODS = (
    *for_both("an endless first line", b"HTTP/1.1 200 " + b"O" * 70_000, b"K" * 70_000, end="flood"),
    *for_both("endless headers", OK, b"x: y\r\n" * 10_000, end="flood"),
    *for_both("an endless header", OK + b"x: ", b"y" * 70_000, end="flood"),
    *for_both("endless 100 Continue", b"HTTP/1.1 100 Continue\r\n\r\n" * 3000, end="flood"),
    *for_both("endless 103 Early Hints", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 2000, end="flood"),
    *for_both("endless line breaks", b"\r\n" * 40_000, end="flood"),
)
_EARLY_ENDS = (
    *for_both("nothing, closed"),
    *for_both("nothing, reset", end="reset"),
    *(
        case
        for cut in (1, 8, 12, 16, 17, 30, len(WHOLE_HEAD) - 1)
        for case in for_both(
            f"a head cut after {cut} bytes", WHOLE[:cut], end="reset" if cut % 2 else "close"
        )
    ),
    *for_both("100 Continue and nothing", b"HTTP/1.1 100 Continue\r\n\r\n"),
    *(
        whole(f"a body cut after {cut} bytes, {end}", WHOLE[: len(WHOLE_HEAD) + cut], end=end)
        for cut in (0, 1, len(BODY) // 2, len(BODY) - 1)
        for end in ("close", "reset")
    ),
    whole("a body without a length that is reset", JSON + b"\r\n" + BODY, end="reset"),
)
_BAD_CHUNKS = {
    "a size that is no number": b"zz\r\nhello\r\n",
    "a negative size": b"-5\r\nhello\r\n",
    "a size with a plus sign": b"+5\r\nhello\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n",
    "a size with an underscore": b"1_0\r\n0123456789abcdef\r\n",
    "a size beyond 64 bits": b"fffffffffffffffff\r\nhello\r\n",
    "an empty size": b"\r\nhello\r\n",
    "a chunk longer than its size": b"5\r\nhelloXX\r\n",
    "a chunk shorter than its size": b"9\r\nhello\r\n0\r\n\r\n",
    "a bare line feed after a size": b"5\nhello\r\n",
    "a bare line feed after a chunk": b"5\r\nhello\n0\r\n\r\n",
    "a head instead of a chunk": b"HTTP/1.1 200 OK\r\n\r\n",
}
_CHUNKS = (
    case
    for name, data in _BAD_CHUNKS.items()
    for case in (
        whole(f"in the body {name}", CHUNKED_HEAD, data),
        stream(f"before the first event {name}", data, outcome="error"),
        stream(f"after an event {name}", chunk(HELLO), data, outcome="cut"),
    )
)
_CUT_CHUNKS = (
    whole("no chunk", CHUNKED_HEAD),
    whole("half a chunk", CHUNKED_HEAD, b"9\r\nhel"),
    whole("no last chunk", CHUNKED_HEAD, chunk(BODY)),
    whole("half a last chunk", CHUNKED_HEAD, chunk(BODY), b"0\r\n"),
    whole("a trailer that is cut", CHUNKED_HEAD, chunk(BODY), b"0\r\nx: y"),
)
_STREAM = chunk(HELLO) + chunk(HELLO) + chunk(STOP) + chunk(DONE) + LAST_CHUNK
_EVENT = len(chunk(HELLO))
_STREAM_CUTS = (
    stream(
        f"a stream cut after {cut} bytes, {end}",
        _STREAM[:cut],
        outcome="error" if cut < _EVENT - len(b"\r\n") else "cut",
        end=end,
    )
    for cut in (0, 2, 20, _EVENT - 3, _EVENT, _EVENT + 1, _EVENT + 30, 2 * _EVENT, 2 * _EVENT + 40)
    for end in ("close", "reset")
)
BROKEN: tuple[Case, ...] = (
    *_BEFORE_A_BODY,
    *_HEADERS,
    *_FLOODS,
    *_EARLY_ENDS,
    *_CHUNKS,
    *_CUT_CHUNKS,
    *_STREAM_CUTS,
)

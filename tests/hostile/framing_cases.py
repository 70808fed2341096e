"""Requests that two servers could end at different bytes: lengths, encodings, chunks."""

from __future__ import annotations

from hostile.smuggling import CHUNKS, LENGTH, SMUGGLED, Case, forwarded, raw, refused
from router.raw_http import CHAT, CHUNKED, request_head

TWO_LENGTHS = (
    refused("a length and chunks", request_head(LENGTH, CHUNKED) + CHUNKS),
    refused("chunks and a length", request_head(CHUNKED, LENGTH) + CHUNKS),
    refused(
        "chunks and a length of 0, a request in the body",
        request_head(CHUNKED, "content-length: 0") + CHUNKS + SMUGGLED,
    ),
    refused(
        "a length that ends before a request, and chunks",
        request_head("content-length: 4", CHUNKED) + b"0\r\n\r\n" + SMUGGLED,
    ),
    refused("a length and chunks in capitals", request_head(LENGTH, "TRANSFER-ENCODING: CHUNKED") + CHUNKS),
    refused("two lengths that differ", request_head("content-length: 5", "content-length: 6") + b"hello!"),
    refused(
        "two lengths that differ, the longer first",
        request_head(f"content-length: {len(SMUGGLED)}", "content-length: 0") + SMUGGLED,
    ),
    refused("two lengths that are equal", request_head(LENGTH, LENGTH) + CHAT),
    refused("two lengths in different case", request_head("Content-Length: 0", LENGTH) + CHAT),
    refused("a list of lengths", request_head(f"content-length: {len(CHAT)}, {len(CHAT)}") + CHAT),
    refused("a list of lengths that differ", request_head("content-length: 0,5") + b"hello"),
    refused(
        "three lengths", request_head("content-length: 1", "content-length: 1", "content-length: 1") + b"x"
    ),
)
LENGTHS = (
    refused("a negative length", request_head("content-length: -1")),
    refused("a length of minus 0", request_head("content-length: -0") + SMUGGLED),
    refused("a length with a plus sign", request_head(f"content-length: +{len(CHAT)}") + CHAT),
    refused("a length in hexadecimal", request_head("content-length: 0x10") + b"x" * 16),
    refused("a length with an underscore", request_head("content-length: 1_0") + b"x" * 10),
    refused("a length with a point", request_head("content-length: 1.0") + b"x"),
    refused("a length with an exponent", request_head("content-length: 1e1") + b"x" * 10),
    refused("a length with a space inside", request_head("content-length: 1 2") + b"x"),
    refused("an empty length", request_head("content-length:") + SMUGGLED),
    refused("a length of white space", request_head("content-length:  \t") + SMUGGLED),
    refused("a length in letters", request_head("content-length: ten") + b"x" * 10),
    refused("a length with a superscript digit", request_head(f"content-length: {len(CHAT)}\xb2") + CHAT),
    refused("a length of another script", raw("content-length: \u0661\u0661".encode()) + b"x" * 11),
    refused("a length with a zero byte", request_head("content-length: 5\0") + b"hello"),
    refused("a length beyond 64 bits", request_head("content-length: 18446744073709551616")),
    refused(
        "a length beyond 64 bits that wraps to the right one",
        request_head(f"content-length: {2**64 + len(CHAT)}") + CHAT,
    ),
    refused("a length of twenty nines", request_head("content-length: 99999999999999999999")),
    refused("a length with twenty digits", request_head(f"content-length: {len(CHAT):020}") + CHAT),
    refused("a length with a line break", request_head(f"content-length: {len(CHAT)}\n") + CHAT),
    refused("a folded length", request_head(f"content-length: {len(CHAT)}\r\n 1") + CHAT),
    refused("a length above the limit", request_head(f"content-length: {'9' * 19}"), 413),
    refused(
        "a body shorter than its length", request_head(f"content-length: {len(CHAT) + 1000}") + CHAT, 408
    ),
    forwarded("leading zeros in a length", request_head(f"content-length: {len(CHAT):019}") + CHAT),
    forwarded("white space after a length", request_head(f"{LENGTH}\t ") + CHAT),
    Case(
        "a length of 0 before a request",
        request_head("content-length: 0") + SMUGGLED.replace(b"plan", b"nowhere"),
        (400, 404, 200),
    ),
    Case("no length at all", request_head(), (400, 200)),
)
ENCODINGS = (
    refused("an unknown encoding", request_head("transfer-encoding: gzip") + CHAT),
    refused("an unknown encoding and a length", request_head("transfer-encoding: gzip", LENGTH) + CHAT),
    refused(
        "chunks that are not the last encoding", request_head("transfer-encoding: chunked, gzip") + CHUNKS
    ),
    refused("chunks and identity", request_head("transfer-encoding: chunked, identity") + CHUNKS),
    refused("identity", request_head("transfer-encoding: identity", LENGTH) + CHAT),
    refused("chunked in quotes", request_head('transfer-encoding: "chunked"') + CHUNKS),
    refused("chunked in brackets", request_head("transfer-encoding: [chunked]") + CHUNKS),
    refused("a word that ends in chunked", request_head("transfer-encoding: xchunked") + CHUNKS),
    refused("a word that starts with chunked", request_head("transfer-encoding: chunkedx") + CHUNKS),
    refused("chunked with a parameter", request_head("transfer-encoding: chunked;q=1") + CHUNKS),
    refused("chunked with a vertical tab", request_head("transfer-encoding: \x0bchunked") + CHUNKS),
    refused("chunked with a zero byte", request_head("transfer-encoding: chunked\0") + CHUNKS),
    refused(
        "chunked with a form feed, and a length",
        request_head("transfer-encoding: \x0cchunked", LENGTH) + CHAT,
    ),
    refused("an empty encoding and a length", request_head("transfer-encoding:", LENGTH) + CHAT),
    refused("a comma as encoding, and a length", request_head("transfer-encoding: ,", LENGTH) + CHAT),
    refused("white space before the colon", request_head("transfer-encoding : chunked", LENGTH) + CHAT),
    refused("a tab before the colon", request_head("transfer-encoding\t: chunked", LENGTH) + CHAT),
    refused("a folded encoding", request_head("transfer-encoding:\r\n chunked", LENGTH) + CHAT),
    refused(
        "an encoding after a folded line", request_head("x: y\r\n transfer-encoding: chunked", LENGTH) + CHAT
    ),
    refused(
        "an encoding after a bare line feed",
        request_head(f"x: y\ntransfer-encoding: chunked\r\n{LENGTH}") + CHAT,
    ),
    refused(
        "an encoding after a bare carriage return",
        request_head(f"x: y\rtransfer-encoding: chunked\r\n{LENGTH}") + CHAT,
    ),
    refused("chunked twice", request_head(CHUNKED, CHUNKED) + CHUNKS),
    refused("chunked twice in one line", request_head("transfer-encoding: chunked, chunked") + CHUNKS),
    refused("chunks in HTTP/1.0 with a length", request_head(CHUNKED, LENGTH, version="1.0") + CHAT),
    forwarded(
        "an encoding whose name has an underscore is another header",
        request_head("transfer_encoding: chunked", LENGTH) + CHAT,
    ),
    forwarded("chunked in capitals", request_head("Transfer-Encoding: CHUNKED") + CHUNKS),
    forwarded("white space before chunked", request_head("transfer-encoding: \t chunked") + CHUNKS),
    refused("a tab after chunked", request_head("transfer-encoding: chunked\t") + CHUNKS),
)
CHUNK_SIZES = (
    refused("a chunk size that is no number", request_head(CHUNKED) + b"zz\r\nhello\r\n"),
    refused("a negative chunk size", request_head(CHUNKED) + b"-5\r\nhello\r\n0\r\n\r\n"),
    refused("a chunk size with a plus sign", request_head(CHUNKED) + b"+5\r\nhello\r\n0\r\n\r\n"),
    refused("a chunk size with 0x", request_head(CHUNKED) + b"0x5\r\nhello\r\n0\r\n\r\n"),
    refused(
        "a chunk size with an underscore", request_head(CHUNKED) + b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"
    ),
    refused("a chunk size beyond 64 bits", request_head(CHUNKED) + b"fffffffffffffffff\r\n"),
    refused("a chunk size that wraps to 0", request_head(CHUNKED) + b"10000000000000000\r\n\r\n" + SMUGGLED),
    refused("an empty chunk size", request_head(CHUNKED) + b"\r\n\r\n" + SMUGGLED),
    refused("white space before a chunk size", request_head(CHUNKED) + b" 5\r\nhello\r\n0\r\n\r\n"),
    refused("white space after a chunk size", request_head(CHUNKED) + b"5 \r\nhello\r\n0\r\n\r\n"),
    refused("a chunk longer than its size", request_head(CHUNKED) + b"5\r\nhelloXX0\r\n\r\n"),
    refused("a chunk longer by a request", request_head(CHUNKED) + b"0" + SMUGGLED),
    refused("a chunk shorter than its size", request_head(CHUNKED) + b"9\r\nhello\r\n0\r\n\r\n"),
    refused("a chunk size before a bare line feed", request_head(CHUNKED) + b"5\nhello\r\n0\r\n\r\n"),
    refused("a chunk before a bare line feed", request_head(CHUNKED) + b"5\r\nhello\n0\r\n\r\n"),
    refused("a chunk size before a bare carriage return", request_head(CHUNKED) + b"5\rhello\r\n0\r\n\r\n"),
    refused("a last chunk before bare line feeds", request_head(CHUNKED) + b"0\n\n" + SMUGGLED),
    refused("a chunk extension with a bare line feed", request_head(CHUNKED) + b"5;x\nhello\r\n0\r\n\r\n"),
    refused(
        "a chunk extension with a bare carriage return",
        request_head(CHUNKED) + b"5;x\ry\r\nhello\r\n0\r\n\r\n",
    ),
    refused("a chunk extension with a zero byte", request_head(CHUNKED) + b"5;x\0\r\nhello\r\n0\r\n\r\n"),
    refused("an endless chunk extension", request_head(CHUNKED) + b"5;" + b"x" * 600_000),
    refused("endless trailers", request_head(CHUNKED) + b"0\r\n" + b"x: y\r\n" * 100_000),
    refused("a folded trailer", request_head(CHUNKED) + CHUNKS[:-2] + b"x: y\r\n z\r\n\r\n"),
    refused("a trailer with a bare line feed", request_head(CHUNKED) + CHUNKS[:-2] + b"x: y\nz: 1\r\n\r\n"),
    refused("chunks that do not end", request_head(CHUNKED) + b"5\r\nhello\r\n", 408),
    forwarded(
        "a chunk size in capitals with zeros",
        request_head(CHUNKED) + b"000%X\r\n%b\r\n0\r\n\r\n" % (len(CHAT), CHAT),
    ),
    forwarded(
        "a chunk extension", request_head(CHUNKED) + b'%x;a="b;c"\r\n%b\r\n0\r\n\r\n' % (len(CHAT), CHAT)
    ),
    forwarded(
        "a chunk extension with a request in quotes",
        request_head(CHUNKED) + b'%x;a="GET /smuggled HTTP/1.1"\r\n%b\r\n0\r\n\r\n' % (len(CHAT), CHAT),
    ),
    refused("a trailer that is a length", request_head(CHUNKED) + CHUNKS[:-2] + b"content-length: 5\r\n\r\n"),
    refused(
        "a trailer that is an encoding",
        request_head(CHUNKED) + CHUNKS[:-2] + b"transfer-encoding: gzip\r\n\r\n",
    ),
    forwarded(
        "a trailer that is no header of the request",
        request_head(CHUNKED) + CHUNKS[:-2] + b"x-smuggled: 1\r\n\r\n",
        header=("x-smuggled", None),
    ),
)

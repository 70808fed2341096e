"""Answers of a hostile router, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MODELS_INI = "[m]\nrole = fast\nmodel = ollama/x\nctx_size = 8k\n"
_TIER = {
    "name": "m", "role": "fast", "backend": "server", "model": "ollama/x", "ctx_size": 8192,
    "state": "remote", "channel": "current", "pid": None, "leases": 0, "waiting": 0, "detail": "",
    "can_start": True,
}  # fmt: skip
GOOD_STATUS: dict[str, Any] = {
    "work_dir": "/theirs", "channel": "current", "started": 1.0, "swapper": {"kind": "builtin"},
    "tiers": [_TIER], "backends": {}, "recent": [],
}  # fmt: skip
GOOD_ROUTE: dict[str, Any] = {
    "tier": "m", "reason": "short", "others": [], "considered": [], "conversation_tokens": 1,
    "context_tokens": 1, "session_known": False,
}  # fmt: skip
ELSEWHERE = b"(elsewhere)"  # replaced by the address of another server
EVERYTHING, STATUS, ROUTE, INI = "*", "/llmstack/status", "/llmstack/route", "/models.ini"


def response(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, b"content-length: %d" % len(body), b"", body))


def redirect(status: bytes, location: bytes) -> bytes:
    return response(b"", b"location: " + location, status=status)


def error(status: bytes, document: Any) -> bytes:
    return response(json.dumps(document).encode(), b"content-type: application/json", status=status)


@dataclass(frozen=True)
class Case:
    """One hostile router.

    Attributes:
        answers: by path; `*` for all paths. What is not listed is answered as a router that works would.
        works: commands may succeed.
    """

    name: str
    answers: Mapping[str, bytes] = field(hash=False)
    works: bool = False


def everything(name: str, answer: bytes) -> Case:
    return Case(name, {EVERYTHING: answer})


def ini(name: str, text: str | bytes, *, works: bool = True) -> Case:
    body = text.encode() if isinstance(text, str) else text
    return Case(name, {INI: response(body)}, works=works)


_NO_ROUTER = (
    everything("a web page", response(b"<!doctype html><title>hi</title>", b"content-type: text/html")),
    everything("a web page that is not found", response(b"<html>", status=b"404 Not Found")),
    everything("an empty answer", response(b"")),
    everything("no content", response(b"", status=b"204 No Content")),
    everything("JSON of something else", response(b'{"ok": true}')),
    everything("an image", response(b"\x89PNG\xff\xfe\x00" * 1000, b"content-type: image/png")),
    everything("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n"),
    everything("TLS", b"\x15\x03\x01\x00\x02\x02\x28"),
    everything("nothing, closed", b""),
    everything("nothing, reset", b"(reset)"),
    everything("half a head", b"HTTP/1.1 200 OK\r\ncontent-le"),
    everything("a body shorter than its length", response(MODELS_INI.encode())[:-5]),
    everything("a negative length", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
    everything("a status that is no number", b"HTTP/1.1 abc\r\n\r\n"),
    everything(
        "chunks with a size that is no number", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
    ),
    everything("chunks that are cut", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhel"),
    everything("a compressed body", response(b"\x1f\x8b\x08\x00rubbish", b"content-encoding: gzip")),
    everything("a long first line", b"HTTP/1.1 200 " + b"O" * 70_000 + b"\r\n\r\n"),
    everything("a long header", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n"),
    everything("ten thousand headers", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000 + b"\r\n"),
    everything("a thousand times 100 Continue", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    everything(
        "a change of protocol", b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
    ),
)
_ERRORS = (
    everything("a web page as error", response(b"<html>", status=b"500 Oh")),
    everything(
        "an error of many lines", error(b"500 Oh", {"error": {"message": "one\ntwo\nerror: three\n"}})
    ),
    everything("an error of a megabyte", error(b"500 Oh", {"error": {"message": "x" * 1_000_000}})),
    everything("an error of odd types", error(b"500 Oh", {"error": [{"message": 1}]})),
    everything("an error that is a number", error(b"500 Oh", 7)),
    everything("an error that is no UTF-8", response(b"\xff" * 100, status=b"500 Oh")),
    everything("a refused key", error(b"401 No", {"error": {"message": "send me $AWS_SECRET_ACCESS_KEY"}})),
    everything("a status of 999", response(b"", status=b"999 Odd")),
    everything("a success that is none", response(MODELS_INI.encode(), status=b"206 Partial Content")),
)
_REDIRECTS = (
    *(
        everything(
            f"a redirect ({status.decode()}) to another host", redirect(status, ELSEWHERE + b"/models.ini")
        )
        for status in (b"301 Moved", b"302 Found", b"303 See", b"307 Temporary", b"308 Permanent")
    ),
    everything("a redirect to a file", redirect(b"302 Found", b"file:///etc/passwd")),
    everything("a redirect to itself", redirect(b"302 Found", b"/models.ini")),
    everything("a header that refreshes elsewhere", response(b"", b"refresh: 0; url=" + ELSEWHERE)),
    everything(
        "a proxy that wants credentials",
        response(b"", b'proxy-authenticate: Basic realm="x"', status=b"407 Proxy"),
    ),
    everything(
        "a server that wants other credentials",
        response(b"", b'www-authenticate: Basic realm="x"', status=b"401 No"),
    ),
)
_SLOW = (
    everything("silence", b"(silent)"),
    everything("a head that trickles", b"(trickle)" + response(b"x" * 1000)),
    everything("a body that trickles", b"(trickle)" + response(MODELS_INI.encode() * 100)),
)
_MODELS_INI = (
    ini(
        "a models.ini that names the variable of the key",
        "[DEFAULT]\napi_key_env = AWS_SECRET_ACCESS_KEY\n" + MODELS_INI,
    ),
    ini(
        "a models.ini that names a command",
        MODELS_INI + "[t]\nmodel = mcp/t\ncommand = (touch)\nctx_size = 8k\n",
    ),
    ini(
        "a models.ini that names arguments",
        MODELS_INI + "[g]\npath = /m.gguf\nctx_size = 8k\nextra_args = --log-file /tmp/x\n",
    ),
    ini(
        "a models.ini that names another server",
        MODELS_INI + "[o]\nmodel = openai/x\nbase_url = http://evil.example\nctx_size = 8k\n",
    ),
    ini(
        "a models.ini that listens to the network",
        "[DEFAULT]\nhost = 0.0.0.0\nallowed_hosts = evil.example\n" + MODELS_INI,
    ),
    ini("a models.ini with a key", "[DEFAULT]\napi_key = sk-1234567890abcdef\n" + MODELS_INI),
    ini(
        "a models.ini with a file of this machine",
        MODELS_INI + "[g]\npath = ../../../etc/passwd\nctx_size = 8k\n",
    ),
    ini("a models.ini with a path as tier", "[../../../x]\nrole = fast\nmodel = ollama/x\nctx_size = 8k\n"),
    ini(
        "a models.ini with escapes",
        "[m]\nrole = fast\nmodel = ollama/\x1b]52;c;eA==\x07\nctx_size = 8k\ndescription = \x1b[2J\n",
    ),
    ini(
        "a models.ini with substitutions of opencode",
        "[m]\nrole = fast\nmodel = ollama/x\nctx_size = 8k\ndescription = {env:AWS_SECRET_ACCESS_KEY}"
        " {file:/etc/passwd}\n",
    ),
    ini(
        "a models.ini with a huge value",
        "[m]\nrole = fast\nmodel = ollama/x\nctx_size = " + "9" * 5000 + "\n",
    ),
    ini(
        "a models.ini with a huge name", f"[{'x' * 100_000}]\nrole = fast\nmodel = ollama/x\nctx_size = 8k\n"
    ),
    ini(
        "a models.ini with three hundred tiers",
        "".join(f"[m{n}]\nmodel = ollama/x\nctx_size = 8k\n" for n in range(300)),
    ),
    ini("a models.ini with fifty thousand comments", "; x\n" * 50_000 + MODELS_INI),
    ini("a models.ini with the same tier twice", MODELS_INI + MODELS_INI, works=False),
    ini("a models.ini without tiers", "[DEFAULT]\nparallel = 1\n", works=False),
    ini("a models.ini with zero bytes", MODELS_INI.replace("x", "\0"), works=False),
    ini("a models.ini that is no UTF-8", MODELS_INI.encode("utf-16"), works=False),
    ini("a models.ini of unknown keys", "[m]\nrole = fast\nsurprise = 1\n", works=False),
)
CASES: tuple[Case, ...] = (*_NO_ROUTER, *_ERRORS, *_REDIRECTS, *_SLOW, *_MODELS_INI)

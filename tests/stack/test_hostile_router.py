"""Whatever answers in place of a router: a command ends with one error that names its address."""

from __future__ import annotations

import copy
import json
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from support.hostile_router import (
    RELOAD,
    ROUTE,
    STATUS,
    answering,
    documents,
    own_router,
    speaking,
    thin_client,
)

from llmstack.errors import LlmstackError
from llmstack.stack.remote.bounded_response import MAX_BYTES
from llmstack.stack.remote.router_client import RouterClient, RouterUnreachableError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

WRONG_VALUES: list[Any] = [
    *(None, True, -1, 1e308, 10**400, "x", "x" * 20_000, [], [1], {}, {"x": 1}, [[]], float("nan")),
]
WHOLE_BODIES = [
    *(b"", b"null", b"[]", b"17", b'"x"', b"{", b"\xff\xfe", b"NaN", b"{}", b'{"tier":NaN}', b"1e999"),
    *(
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"tiers":' + b"9" * 100_000 + b"}",
    ),
]


def mutations(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield this document with each of its values, at every depth, removed or replaced by a wrong one."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items):
        for wrong in WRONG_VALUES:
            changed = copy.copy(document)
            changed[key] = wrong
            yield (*path, key), changed
        if isinstance(document, dict):
            yield (*path, key), {name: kept for name, kept in document.items() if name != key}
        if isinstance(value, dict | list):
            for deeper, inner in mutations(value, (*path, key)):
                changed = copy.copy(document)
                changed[key] = inner
                yield deeper, changed


def read_all(url: str, kind: str) -> None:
    """Ask a router for one document, as the commands do."""
    client = RouterClient(url)
    if kind == "status":
        client.status()
    elif kind == "route":
        client.route(b"{}", 5)
    elif kind == "reload":
        client.reload(5)
    elif kind == "load":
        client.load("code-fast", 5)
    else:
        client.unload(None, 5)


@pytest.mark.parametrize(("kind", "document"), [("status", STATUS), ("route", ROUTE), ("reload", RELOAD)])
def test_every_value_is_of_its_type_or_an_error(kind: str, document: dict[str, Any]) -> None:
    answers: dict[str, bytes] = {}
    errors = []
    with answering(answers) as url:
        for _, changed in mutations(document):
            answers[f"/llmstack/{kind}"] = json.dumps(changed).encode()
            try:
                read_all(url, kind)
            except LlmstackError as error:
                errors.append(error.message)
    assert len(errors) > 50
    assert all(url in message and len(message) < 1000 for message in errors)


@pytest.mark.parametrize("kind", ["status", "route", "reload", "load", "unload"])
@pytest.mark.parametrize("body", WHOLE_BODIES, ids=lambda body: repr(body[:12]))
def test_any_other_body_is_an_error_that_names_the_address(kind: str, body: bytes) -> None:
    with answering(documents(**{kind: body})) as url, pytest.raises(LlmstackError) as raised:
        read_all(url, kind)
    assert url in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"error":5}', b'{"error":{"message":[]}}', b"\xff", b'{"error":{"message":1e999}}'],
)
def test_an_error_that_is_none_names_the_address(body: bytes) -> None:
    with answering(documents(status=body), status=500) as url, pytest.raises(LlmstackError) as raised:
        read_all(url, "status")
    assert raised.value.message == f"{url} answered 500: expected an llmstack router there"


def test_a_long_error_is_cut() -> None:
    body = json.dumps({"error": {"message": "x" * 100_000}}).encode()
    with answering(documents(status=body), status=500) as url, pytest.raises(LlmstackError) as raised:
        read_all(url, "status")
    assert len(raised.value.message) == 2000


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" " * 65_536)


def trickling(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def trickling_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def only_informing(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.001)


def cut_short(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n[code-fast]\n")


def negative_chunk(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nabc\r\n")


def test_an_endless_response_is_cut_at_its_limit() -> None:
    before = psutil.Process().memory_info().rss
    with speaking(endless) as url, pytest.raises(LlmstackError) as raised:
        RouterClient(url).models_ini()
    assert "answered with more than 16 MB" in raised.value.message
    assert psutil.Process().memory_info().rss - before < 8 * MAX_BYTES


@pytest.mark.parametrize("speak", [trickling, trickling_headers, only_informing])
def test_a_response_that_trickles_in_ends_at_the_deadline(speak: Any) -> None:
    with speaking(speak) as url, pytest.raises(RouterUnreachableError) as raised:
        RouterClient(url).route(b"{}", 0.5)
    assert raised.value.message == f"{url} did not answer within 0.5 s"


@pytest.mark.parametrize("speak", [cut_short, negative_chunk])
def test_half_a_response_is_none(speak: Any) -> None:
    with speaking(speak) as url, pytest.raises(RouterUnreachableError) as raised:
        RouterClient(url).models_ini()
    assert url in raised.value.message


COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("route", "hello"),
    ("route", "hello", "--explain", "--json"),
    ("check",),
    ("ask", "hello"),
    ("reload",),
    ("mcp",),
)
OWN_COMMANDS = (("load", "code-fast"), ("unload",), ("unload", "code-fast"))


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"tiers":5,"work_dir":[]}', b'{"choices":5}', b"NaN"])
def test_no_command_shows_a_traceback(tmp_path: Path, body: bytes) -> None:
    kinds = ("status", "route", "reload", "load", "unload")
    answers = documents(**dict.fromkeys(kinds, body)) | {"/v1/": body}
    with answering(answers) as url, thin_client(tmp_path / "thin", url) as thin:
        for command in COMMANDS:
            result = thin.run(*command)
            assert result.code in {0, 1}
            assert "Traceback" not in result.err
    with answering(answers) as url, own_router(tmp_path / "own", url) as own:
        for command in (*COMMANDS, *OWN_COMMANDS):
            result = own.run(*command)
            assert result.code in {0, 1}
            assert "Traceback" not in result.err
            if command[0] in {"route", "load", "unload", "reload"}:
                assert result.code == 1
                assert result.err.count("error: ") == 1
                assert url in result.err or url.replace("127.0.0.1", "localhost") in result.err

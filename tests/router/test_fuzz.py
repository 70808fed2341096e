"""Random requests to the router on a real socket: never a 5xx, and the router keeps running."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from support.examples import sample

if TYPE_CHECKING:
    from router.harness import RunningRouter


FUZZ = sample(120)
TEXT = st.text(max_size=6) | st.sampled_from(["user", "tool", "auto", "plan", "agent", "text", "\ud800"])
FIELDS = st.sampled_from(
    ["model", "messages", "prompt", "stream", "tools", "max_tokens", "role", "content", "type"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | TEXT, inner, max_size=5),
    max_leaves=15,
)
BODIES = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=80)
PATHS = st.sampled_from(
    [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/upstream/plan/x",
        "/llmstack/load/x",
        "/?model=plan",
    ]
)


def _ask(
    router: RunningRouter, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@FUZZ
@given(path=PATHS, body=BODIES)
def test_any_body_causes_no_server_error(lasting_router: RunningRouter, path: str, body: bytes) -> None:
    status, response = _ask(lasting_router, "POST", path, body, {})
    assert status < 500, response
    if status >= 400:
        assert json.loads(response)["error"]["message"]


NAMES = st.sampled_from(
    ["host", "origin", "authorization", "connection", "x-api-key", "accept", "x-y", "content-type"]
)
CHARS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12)


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PATCH", "TRACE", "MKCOL"]),
    segments=st.lists(
        st.sampled_from(["upstream", "plan", "v1", "..", "%2f", "%00", "%ff", "", ";", "llmstack"]),
        max_size=5,
    ),
    query=st.sampled_from(["", "?model=plan", "?model=%ff", "?", "?model=plan&model=x", "?%00=%zz"]),
    headers=st.dictionaries(NAMES, CHARS, max_size=4),
)
def test_any_path_and_headers_cause_no_server_error(
    lasting_router: RunningRouter, method: str, segments: list[str], query: str, headers: dict[str, str]
) -> None:
    path = "/" + "/".join(segments) + query
    status, response = _ask(lasting_router, method, path, b'{"model":"plan"}', headers)
    assert status < 500, response


@FUZZ
@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                b"GET ",
                b"POST ",
                b"CONNECT ",
                b"* ",
                b"/ ",
                b"http://a@b/ ",
                b"HTTP/1.1\r\n",
                b"HTTP/1.0\r\n",
                b"host: localhost",
                b"\r\n",
                b"content-length: 5",
                b"content-length: -1",
                b"transfer-encoding: chunked",
                b"\r\n\r\n",
                b"5\r\nhello\r\n",
                b"upgrade: websocket\r\nconnection: upgrade",
                b"expect: 100-continue",
                b"content-length: 99999999999999999999",
            ]
        ),
        max_size=12,
    ).map(b"".join)
)
def test_any_bytes_cause_no_server_error(lasting_router: RunningRouter, data: bytes) -> None:
    response = b""
    with (
        socket.create_connection(("127.0.0.1", lasting_router.port), timeout=10) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65_536):
            response += part
    assert b"HTTP/1.1 5" not in response, response
    assert _ask(lasting_router, "GET", "/health", b"", {})[0] == 200


def test_no_request_is_left_after_fuzzing(lasting_router: RunningRouter) -> None:
    assert lasting_router.swapper.leases == lasting_router.swapper.waiting == 0
    assert lasting_router.app.service.in_flight == 0

"""Host and Origin: no web page reaches the router, also not by a name that it lets point to this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from hostile.wire import exchange, read_answers, require_nothing_left
from router.clients import well_behaved
from router.harness import RunningRouter, ScriptedServer, Setup, stack
from router.raw_http import CHAT

from llmstack.router.auth import RequestAuth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AUTH = RequestAuth(
    "127.0.0.1", ("host.docker.internal", "Tunnel.Example", "[fd00::5]"), "", "LLMSTACK_API_KEY"
)
KNOWN_HOSTS = (
    *("127.0.0.1", "127.0.0.1:10101", "127.0.0.2", "127.255.255.254:1"),
    *("localhost", "localhost:80", "LOCALHOST:10101", "localhost.", "localhost.:10101", " localhost\t"),
    *("app.localhost", "app.localhost.", "a.b.localhost:3000"),
    *("[::1]", "[::1]:10101", "[0:0:0:0:0:0:0:1]", "[::0001]:1"),
    *("host.docker.internal", "HOST.docker.internal:10101", "host.docker.internal."),
    *("tunnel.example", "tunnel.example.", "TUNNEL.EXAMPLE:443", "[fd00::5]", "[FD00::5]:80"),
)
FOREIGN_HOSTS = (
    # other machines
    *("evil.example", "evil.example:10101", "evil.example.", "EVIL.EXAMPLE", "93.184.216.34"),
    *("192.168.1.5", "192.168.1.5:10101", "10.0.0.1", "169.254.169.254", "[fd00::6]", "[fe80::1]"),
    # names that only look like this machine
    *("127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "127-0-0-1.evil.example"),
    *("evillocalhost", "localhost-evil.example", "localhost.localdomain", "xn--localhost", "localhos"),
    *("evil.example@localhost", "localhost@evil.example", "localhost:80@evil.example", "localhost\x80"),
    *("localhost%2eevil.example", "evil.example/localhost", "evil.example#localhost"),
    *("evil.example?localhost", "evil.example\\localhost", "localhost\\.evil.example"),
    *("localhost,evil.example", "evil.example,localhost", "localhost evil.example"),
    *("\xe9vil", "l\xf6calhost", "localhost..", ".evil.localhost.example"),
    # names near those of allowed_hosts
    *("docker.internal", "x.host.docker.internal", "host.docker.internal.evil.example", "tunnel.example.org"),
    *("evil-tunnel.example", "fd00::5.evil.example"),
    # other ways to write an address
    *("0.0.0.0", "0",  # noqa: S104 - nothing listens
      "2130706433", "0x7f000001", "017700000001", "127.1", "0177.0.0.1", "127.0.0.1.1"),
    *("[::]", "[::1", "::1]", "[::1].evil.example", "[::1]evil"),
    *("[::ffff:10.0.0.1]", "[::127.0.0.1]", "[zz]", "[]"),
    *("", ":10101", "*", "null", "-"),
)  # fmt: skip
KNOWN_ORIGINS = (
    *("http://localhost", "http://localhost:3000", "https://localhost", "HTTP://LOCALHOST:3000"),
    *("http://127.0.0.1:10101", "https://127.0.0.1", "http://[::1]:8", "http://app.localhost:8080"),
    *("https://tunnel.example", "http://host.docker.internal:80"),
)
FOREIGN_ORIGINS = (
    *("null", "", "*", "file://", "about:blank", "data:text/html", "blob:null", "undefined"),
    *("https://evil.example", "http://evil.example:10101", "https://EVIL.example", "http://192.168.1.5"),
    *("http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://evillocalhost"),
    *("http://localhost@evil.example", "http://localhost:80@evil.example", "http://evil.example\\localhost"),
    *("http://evil.example/localhost", "http://evil.example#localhost", "http://evil.example?http://localhost"),
    *("http://localhost, https://evil.example", "https://evil.example, http://localhost"),
    *("https://evil.example http://localhost", "http:localhost", "http:/localhost", "//evil.example"),
    *("chrome-extension://abcdef", "moz-extension://abcdef", "vscode-webview://abcdef"),
    *("http://[::1].evil.example", "http://[::1]evil:80"),
    *("http://[::1", "http://[zz]", "http://0.0.0.0:10101", "http://2130706433", "localhost", "http://"),
)  # fmt: skip
# From each path of the router: what it says of itself, its commands, and what it passes on.
PATHS = (
    *("GET /", "GET /health", "GET /models.ini", "GET /v1/models", "GET /metrics", "GET /llmstack/status"),
    *("GET /llmstack/openapi.json", "POST /llmstack/route", "POST /llmstack/load/plan"),
    *("POST /llmstack/unload", "POST /llmstack/reload", "GET /upstream/plan/health", "POST /v1/messages"),
    *("OPTIONS /v1/chat/completions", "HEAD /", "GET /no/such/path"),
)


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        lines: its Host, Origin and what else a page can set.
        request: method and path.
    """

    name: str
    lines: tuple[str, ...]
    is_admitted: bool
    request: str = "POST /v1/chat/completions"

    @property
    def head(self) -> bytes:
        lines = (f"{self.request} HTTP/1.1", *self.lines, "connection: close", f"content-length: {len(CHAT)}")
        return "\r\n".join((*lines, "", "")).encode("latin-1")


LOCAL = "host: localhost:10101"
CASES = (
    *(Case(f"Host {host!r} is known", (f"host: {host}",), is_admitted=True) for host in KNOWN_HOSTS),
    *(Case(f"Host {host!r} is foreign", (f"host: {host}",), is_admitted=False) for host in FOREIGN_HOSTS),
    *(
        Case(f"Origin {origin!r} is known", (LOCAL, f"origin: {origin}"), is_admitted=True)
        for origin in KNOWN_ORIGINS
    ),
    *(
        Case(f"Origin {origin!r} is foreign", (LOCAL, f"origin: {origin}"), is_admitted=False)
        for origin in FOREIGN_ORIGINS
    ),
    *(
        Case(
            f"a rebound name does not reach {path}", ("host: evil.example",), is_admitted=False, request=path
        )
        for path in PATHS
    ),
    *(
        Case(f"a page does not reach {path}", (LOCAL, "Origin: null"), is_admitted=False, request=path)
        for path in PATHS
    ),
    Case("a request without Host is refused", (), is_admitted=False),
    Case("an Origin in capitals counts", (LOCAL, "ORIGIN: https://evil.example"), is_admitted=False),
    Case("two Origins are refused", (LOCAL, "origin: http://localhost", "origin: null"), is_admitted=False),
    Case(
        "X-Forwarded-Host does not replace Host",
        ("host: evil.example", "x-forwarded-host: localhost"),
        is_admitted=False,
    ),
    Case(
        "Forwarded does not replace Host",
        ("host: evil.example", "forwarded: host=localhost"),
        is_admitted=False,
    ),
    Case(
        "X-Original-Host does not replace Host",
        ("host: evil.example", "x-original-host: localhost"),
        is_admitted=False,
    ),
    Case(
        "a local Referer does not replace Origin",
        (LOCAL, "origin: null", "referer: http://localhost/"),
        is_admitted=False,
    ),
    Case(
        "a local Host does not outweigh a foreign Origin",
        (LOCAL, "origin: http://evil.example"),
        is_admitted=False,
    ),
    Case(
        "a local Origin does not outweigh a foreign Host",
        ("host: evil.example", "origin: http://localhost"),
        is_admitted=False,
    ),
    Case(
        "an address in the target does not replace Host",
        ("host: evil.example",),
        is_admitted=False,
        request="POST http://localhost/v1/chat/completions",
    ),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router_with_allowed_hosts() -> AsyncIterator[tuple[RunningRouter, ScriptedServer]]:
    async with stack(well_behaved, Setup(auth=AUTH)) as (running, server):
        yield running, server
        await require_nothing_left(running, server)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_holds(case: Case, router_with_allowed_hosts: tuple[RunningRouter, ScriptedServer]) -> None:
    running, server = router_with_allowed_hosts
    server.requests.clear()
    (answer,) = read_answers(await exchange(running.port, case.head + CHAT), [case.request.split()[0]])
    assert len(server.requests) == case.is_admitted
    assert running.swapper.loaded == ["code-fast"], "no model is loaded or unloaded"
    if case.is_admitted:
        assert answer.status == 200
    else:
        assert answer.status in {400, 403}
        if answer.status == 403 and not case.request.startswith("HEAD"):
            assert "allowed_hosts" in answer.error


def test_there_are_as_many_cases_as_were_tried_by_hand() -> None:
    assert len({case.head for case in CASES}) == len(CASES) >= 123

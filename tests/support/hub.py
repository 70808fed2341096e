"""The model hub on loopback, made up for tests: redirects to a second host, and misbehaves as it is told."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 16 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer: `cut` or `stall` after so many bytes, or a status instead of bytes."""

    cut: int | None = None
    stall: int | None = None
    status: int | None = None
    retry_after: str | None = None


@dataclass
class Hub:
    """What the two servers have and do, and what they saw.

    `hub` answers /owner/name/resolve/revision/file with a redirect to `cdn`, which is another host.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)  # one for each request for bytes; none left is well
    busy: int = 0  # so many questions to the hub are answered with 429
    gated: bool = False
    token: str | None = None
    ranges: bool = True
    wrong: bool = False
    etag: str | None = None
    rate: float | None = None  # bytes per second of each connection
    length: bool = True
    sent: int = 0
    asked: list[tuple[str, str, str, dict[str, str]]] = field(default_factory=list)
    hub_port: int = 0
    cdn_port: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.hub_port}"

    def cdn(self, name: str) -> str:
        return f"http://localhost:{self.cdn_port}/{name}"

    def requests(self, server: str, method: str = "GET") -> list[dict[str, str]]:
        return [headers for where, how, _, headers in self.asked if (where, how) == (server, method)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    role: str
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError):  # clients that are killed
            super().handle()

    def _saw(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.hub.lock:
            self.hub.asked.append((self.role, self.command, self.path, headers))

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _HubHandler(_Handler):
    role = "hub"

    def do_HEAD(self) -> None:
        self._saw()
        if self.hub.busy:
            self.hub.busy -= 1
            self._answer(429, {"Retry-After": "0"})
            return
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", unquote(self.path))
        if self.hub.gated and self.headers.get("authorization") != f"Bearer {self.hub.token}":
            self._answer(403 if self.hub.token else 401, {"X-Error-Code": "GatedRepo"})
            return
        name = f"{found[1]}/{found[3]}" if found else ""
        if name not in self.hub.files:
            self._answer(404, {"X-Error-Code": "EntryNotFound"})
            return
        content = self.hub.files[name]
        self._answer(
            302,
            {
                "Location": self.hub.cdn(name),
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            },
        )

    do_GET = do_HEAD  # noqa: N815 - the library's name


class _CdnHandler(_Handler):
    role = "cdn"

    def do_GET(self) -> None:
        self._saw()
        name = unquote(self.path.lstrip("/"))
        if name not in self.hub.files:
            self._answer(404, {})
            return
        content = self.hub.files[name]
        etag = self.hub.etag or f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324 - as storage hosts do
        asked = _RANGE.fullmatch(self.headers.get("range", "")) if self.hub.ranges else None
        if self.headers.get("if-range", etag) != etag:
            asked = None
        first, last = (
            (int(asked[1]), min(int(asked[2]), len(content) - 1)) if asked else (0, len(content) - 1)
        )
        probe = asked is not None and first == last == 0
        if asked and first >= len(content):
            self._answer(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        fault = self.hub.faults.popleft() if self.hub.faults and not probe else Fault()
        if fault.status is not None:
            self._answer(fault.status, {"Retry-After": fault.retry_after} if fault.retry_after else {})
            return
        self.send_response(206 if asked else 200)
        self.send_header("ETag", etag)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        if self.hub.length:
            self.send_header("Content-Length", str(last - first + 1))
        else:
            self.close_connection = True
        self.end_headers()
        self._send(content[first : last + 1], fault)

    def _send(self, body: bytes, fault: Fault) -> None:
        if self.hub.wrong and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        for at in range(0, len(body), PIECE):
            piece = body[at : at + PIECE]
            stop = fault.cut if fault.cut is not None else fault.stall
            if stop is not None and at + len(piece) > stop:
                self._write(piece[: max(0, stop - at)])
                if fault.stall is not None:
                    self.hub.released.wait(30)
                self.close_connection = True
                return
            if not self._write(piece):
                return
            if self.hub.rate:
                time.sleep(len(piece) / self.hub.rate)  # the line's speed, no readiness

    def _write(self, piece: bytes) -> bool:
        try:
            self.wfile.write(piece)
        except OSError:
            self.close_connection = True
            return False
        with self.hub.lock:
            self.hub.sent += len(piece)
        return True


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run both servers while the block does."""
    hub = Hub()
    servers = []
    for handler in (_HubHandler, _CdnHandler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"hub": hub}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
    hub.hub_port, hub.cdn_port = (server.server_address[1] for server in servers)
    try:
        yield hub
    finally:
        hub.released.set()
        for server in servers:
            server.shutdown()
            server.server_close()

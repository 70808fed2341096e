"""A fake model hub on loopback, which redirects downloads to a second host and fails on request."""

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
    """How one response fails.

    Attributes:
        cut_after: close the connection after so many bytes.
        stall_after: send nothing more after so many bytes.
        status: send this status instead of the file.
        retry_after: the Retry-After header of that response.
    """

    cut_after: int | None = None
    stall_after: int | None = None
    status: int | None = None
    retry_after: str | None = None


@dataclass
class FakeHub:
    """The state of both servers, and a log of their requests.

    The server `hub` redirects /owner/name/resolve/revision/file to the server `cdn`, which is another host.

    Attributes:
        files: content by `owner/name/file`.
        faults: each request for bytes takes one; without any left it succeeds.
        busy_responses: how many requests to `hub` are answered with 429.
        gated: whether `hub` requires `token`.
        etag: of `cdn`.
        linked_etag: of `hub`; the SHA-256 if it is None. `commit` is its revision.
        excess: bytes that `cdn` sends after the end of a range.
        bytes_per_s: speed of each connection.
        sent_bytes: bytes of content that `cdn` sent.
        request_log: server, method, path and headers of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    busy_responses: int = 0
    gated: bool = False
    token: str | None = None
    supports_ranges: bool = True
    corrupts_content: bool = False
    excess: bytes = b""
    etag: str | None = None
    commit: str = COMMIT
    linked_etag: str | None = None
    bytes_per_s: float | None = None
    sends_length: bool = True
    sent_bytes: int = 0
    request_log: list[tuple[str, str, str, dict[str, str]]] = field(default_factory=list)
    hub_port: int = 0
    cdn_port: int = 0
    shutting_down: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.hub_port}"

    def cdn_url(self, name: str) -> str:
        return f"http://localhost:{self.cdn_port}/{name}"

    def request_headers(self, server: str, method: str = "GET") -> list[dict[str, str]]:
        return [headers for role, verb, _, headers in self.request_log if (role, verb) == (server, method)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    role: str
    hub: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError):  # a test killed the client
            super().handle()

    def _log_request(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.hub.lock:
            self.hub.request_log.append((self.role, self.command, self.path, headers))

    def _respond(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _HubHandler(_Handler):
    role = "hub"

    def do_HEAD(self) -> None:
        self._log_request()
        if self.hub.busy_responses:
            self.hub.busy_responses -= 1
            self._respond(429, {"Retry-After": "0"})
            return
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if self.hub.gated and self.headers.get("authorization") != f"Bearer {self.hub.token}":
            self._respond(403 if self.hub.token else 401, {"X-Error-Code": "GatedRepo"})
            return
        name = f"{match[1]}/{unquote(match[3])}" if match else ""
        if name not in self.hub.files:
            self._respond(404, {"X-Error-Code": "EntryNotFound"})
            return
        content = self.hub.files[name]
        self._respond(
            302,
            {
                "Location": self.hub.cdn_url(name),
                "X-Repo-Commit": self.hub.commit,
                "X-Linked-Etag": f'"{self.hub.linked_etag or hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            },
        )

    do_GET = do_HEAD  # noqa: N815 - http.server's name


class _CdnHandler(_Handler):
    role = "cdn"

    def do_GET(self) -> None:
        self._log_request()
        name = unquote(self.path.lstrip("/"))
        if name not in self.hub.files:
            self._respond(404, {})
            return
        content = self.hub.files[name]
        etag = self.hub.etag or f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324 - storage hosts use MD5
        requested = _RANGE.fullmatch(self.headers.get("range", "")) if self.hub.supports_ranges else None
        if self.headers.get("if-range", etag) != etag:
            requested = None
        first, last = (
            (int(requested[1]), min(int(requested[2]), len(content) - 1))
            if requested
            else (0, len(content) - 1)
        )
        is_probe = requested is not None and first == last == 0
        if requested and first >= len(content):
            self._respond(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        fault = self.hub.faults.popleft() if self.hub.faults and not is_probe else Fault()
        if fault.status is not None:
            self._respond(fault.status, {"Retry-After": fault.retry_after} if fault.retry_after else {})
            return
        self.send_response(206 if requested else 200)
        self.send_header("ETag", etag)
        if requested:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        body = content[first : last + 1] + (b"" if is_probe else self.hub.excess)
        if self.hub.sends_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.end_headers()
        self._send(body, fault)

    def _send(self, body: bytes, fault: Fault) -> None:
        if self.hub.corrupts_content and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        for offset in range(0, len(body), PIECE):
            piece = body[offset : offset + PIECE]
            stop = fault.cut_after if fault.cut_after is not None else fault.stall_after
            if stop is not None and offset + len(piece) > stop:
                self._write(piece[: max(0, stop - offset)])
                if fault.stall_after is not None:
                    self.hub.shutting_down.wait(30)
                self.close_connection = True
                return
            if not self._write(piece):
                return
            if self.hub.bytes_per_s:
                time.sleep(len(piece) / self.hub.bytes_per_s)  # limits the speed; nothing waits for it

    def _write(self, piece: bytes) -> bool:
        try:
            self.wfile.write(piece)
        except OSError:
            self.close_connection = True
            return False
        with self.hub.lock:
            self.hub.sent_bytes += len(piece)
        return True


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Run both servers for the duration of the block."""
    hub = FakeHub()
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
        hub.shutting_down.set()
        for server in servers:
            server.shutdown()
            server.server_close()

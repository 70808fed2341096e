"""A hub that answers a look-up of `org/name/model.gguf` in ways that would never end, or take all memory."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from support.gguf import gguf, llama, raw

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO, FILE = "org/name", "model.gguf"
SIZE = 10**12
PIECE = bytes(64 * 1024)
# A header whose first key is longer than anything that is fetched.
ENDLESS_HEADER = gguf(llama(), count=1_000_000) + raw("x")[:7]
FAULTS = (
    "the whole file instead of a range",
    "an endless range",
    "an endless chunked range",
    "a header without an end",
    "a range that trickles",
    "an endless description",
    "a description that trickles",
    "a compressed description of a terabyte",
    "a deeply nested description",
    "a description with long names",
    "a redirect with an endless body",
    "an endless chain of redirects",
    "a size with a thousand digits",
)


@dataclass
class HostileHub:
    """The hub; its `fault` is one of `FAULTS`.

    Attributes:
        sent_bytes: bytes of bodies that the system took; some megabytes more than arrived.
        trickling: set when the first byte of a response that trickles was sent.
    """

    fault: str
    url: str = ""
    sent_bytes: int = 0
    trickling: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Handler(BaseHTTPRequestHandler):
    hub: HostileHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client has seen enough
            super().handle()

    def do_HEAD(self) -> None:
        missing = self.hub.fault == "a description with long names"
        size = "9" * 1000 if self.hub.fault == "a size with a thousand digits" else str(SIZE)
        self._head(404 if missing else 200, content_length="0", x_linked_size=size)

    def do_GET(self) -> None:
        fault, is_info = self.hub.fault, self.path.startswith("/api/")
        if "redirect" in fault:
            self._head(302, location=self.path, content_length=str(0 if "chain" in fault else SIZE))
            self._send_without_end(1 if "body" in fault else 0)
        elif is_info and "description" in fault:
            self._describe(fault)
        elif is_info:
            self._send(b"{}")
        else:
            self._send_range(fault)

    def _describe(self, fault: str) -> None:
        if fault == "a description that trickles":
            self._head(200, content_length=str(SIZE))
            self._trickle()
        elif fault == "an endless description":
            self._head(200, content_length=str(SIZE))
            self._send_without_end()
        elif fault == "a deeply nested description":
            self._send(b"[" * 1_000_000)
        elif fault == "a description with long names":
            names = [f"{'model' * 40_000}{number}.gguf" for number in range(10)]
            names += [f"model-{number}.gguf" for number in range(50_000)]
            self._send(json.dumps({"siblings": [{"rfilename": name} for name in names]}).encode())
        else:  # compressed; a client that unpacks it gets a terabyte
            block = gzip.compress(bytes(16 * 1024 * 1024))
            self._head(200, content_encoding="gzip", content_length=str(len(block) * 60_000))
            while not self.hub.stopping.is_set():
                self._count(block)

    def _send_range(self, fault: str) -> None:
        first, last = map(int, self.headers["range"].removeprefix("bytes=").split("-"))
        content_range = f"bytes {first}-{last}/{SIZE}"
        if fault == "the whole file instead of a range":
            self._head(200, content_length=str(SIZE))
            self._send_without_end()
        elif fault == "an endless range":
            self._head(206, content_range=content_range, content_length=str(SIZE))
            self._send_without_end()
        elif fault == "an endless chunked range":
            self._head(206, content_range=content_range, transfer_encoding="chunked")
            while not self.hub.stopping.is_set():
                self._count(b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
        elif fault == "a range that trickles":
            self._head(206, content_range=content_range, content_length=str(last + 1 - first))
            self._trickle()
        else:
            content = (ENDLESS_HEADER if first == 0 else b"").ljust(last + 1 - first, b"x")
            self._head(206, content_range=content_range, content_length=str(len(content)))
            self._count(content)

    def _head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _send(self, body: bytes) -> None:
        self._head(200, content_length=str(len(body)))
        self._count(body)

    def _count(self, data: bytes) -> None:
        self.wfile.write(data)
        with self.hub.lock:
            self.hub.sent_bytes += len(data)

    def _send_without_end(self, pieces: int = 1) -> None:
        while pieces and not self.hub.stopping.is_set():
            self._count(PIECE)

    def _trickle(self) -> None:
        while True:
            self._count(b" ")
            self.hub.trickling.set()
            if self.hub.stopping.wait(0.05):
                return


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection with a small buffer, so that `sent_bytes` is close to what arrives."""
        connection, address = super().get_request()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        return connection, address


@contextlib.contextmanager
def running_hostile_hub(fault: str) -> Iterator[HostileHub]:
    """Run a hub for the duration of the block."""
    hub = HostileHub(fault)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()

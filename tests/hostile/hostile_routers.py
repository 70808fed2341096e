"""What a hostile server answers to the command line, which takes it for a router."""

from __future__ import annotations

import contextlib
import json
import re
import socketserver
import struct
import threading
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING, Any

from hostile.router_answers import GOOD_ROUTE, GOOD_STATUS, MODELS_INI, response

if TYPE_CHECKING:
    from collections.abc import Iterator

RESET, SILENT, TRICKLE = b"(reset)", b"(silent)", b"(trickle)"  # instead of an answer
TRICKLE_S = 0.05  # between two bytes


@dataclass
class HostileRouter:
    """A server that gives every request the same answer, and notes what it was sent.

    Attributes:
        answers: by path; `*` for every other path.
        requests: heads and bodies.
    """

    answers: dict[str, bytes] = field(default_factory=dict)
    requests: list[bytes] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def answer_to(self, path: str) -> bytes:
        return self.answers.get(path, self.answers.get("*", b""))

    def pretend(self) -> None:
        """Answer like a router that works, but for what is set later."""
        self.answers = {
            "/models.ini": response(MODELS_INI.encode()),
            "/llmstack/status": response(json.dumps(GOOD_STATUS).encode()),
            "/llmstack/route": response(json.dumps(GOOD_ROUTE).encode()),
        }


class _Handler(socketserver.StreamRequestHandler):
    router: HostileRouter

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self._answer()

    def _answer(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n"))
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        self.router.requests.append(head + self.rfile.read(int(length[1]) if length else 0))
        answer = self.router.answer_to(head.split(b" ", 2)[1].decode())
        if answer == RESET:
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        elif answer == SILENT:
            self.router.stopping.wait()
        elif answer.startswith(TRICKLE):
            for byte in answer.removeprefix(TRICKLE):
                self.wfile.write(bytes((byte,)))
                if self.router.stopping.wait(TRICKLE_S):
                    return
        else:
            self.wfile.write(answer)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients leave."""


@contextlib.contextmanager
def hostile_router() -> Iterator[HostileRouter]:
    router = HostileRouter()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"router": router}))
    router.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield router
    finally:
        router.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()

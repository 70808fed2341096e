"""A server that records everything that is sent to it, on the port that somebody else expected to have."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = b'{"status": "ok", "token": "00", "key": "00"}'
IDLE_S = 0.2  # after this much silence on a connection, the request has ended


@dataclass
class Recorder:
    """What was received, one entry for each connection."""

    port: int
    received: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def all_bytes(self) -> bytes:
        return b"\n".join(self.received)


@contextmanager
def recorder(port: int = 0, answer: bytes = ANSWER) -> Iterator[Recorder]:
    """Run a server that answers every request with 200 and this JSON body."""
    server = socket.create_server(("127.0.0.1", port))
    running = Recorder(server.getsockname()[1])
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"

    def serve(connection: socket.socket) -> None:
        index = len(running.received)
        running.received.append(b"")
        with connection:
            connection.settimeout(5)
            while data := _receive(connection):
                running.received[index] += data
                if running.received[index].endswith(b"\r\n\r\n") or b"{" in data:
                    connection.sendall(head.encode() + answer)

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except OSError:
        return b""

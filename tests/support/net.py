"""Free ports and listening sockets."""

from __future__ import annotations

import itertools
import os
import socket

# Below the ports of outgoing connections (from 32768 on Linux), with a separate range for each test process:
# otherwise another process could take a free port before the test listens on it.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 5
_FIRST, _BAND, _STEP = 12_000, 4_000, 8  # some tests use the next ports too
_OFFSETS = itertools.cycle(range(0, _BAND, _STEP))


def free_port() -> int:
    """Return a free port, a different one at each call."""
    while True:
        port = _FIRST + _WORKER * _BAND + next(_OFFSETS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def listener(port: int = 0) -> socket.socket:
    """Return a socket that accepts connections and never answers."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    return server

from __future__ import annotations

import itertools
import os
import socket

# Below what systems give to outgoing connections (from 32768 on Linux), and a band for each process of the
# tests: a port that was free a moment ago is not somebody else's by the time it is listened on.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 5
_FIRST, _BAND, _STEP = 12_000, 4_000, 8  # some tests take the ports behind it as well
_OFFSETS = itertools.cycle(range(0, _BAND, _STEP))


def free_port() -> int:
    """Return a port that nobody listens on now, another one each time."""
    while True:
        port = _FIRST + _WORKER * _BAND + next(_OFFSETS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def listener(port: int = 0) -> socket.socket:
    """Return a socket that listens and never answers."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    return server

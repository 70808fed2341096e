"""What the router takes of a client, in size and in time."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Sizes in bytes, times in seconds.

    Attributes:
        connections: at once; one more is told to come back.
        target: of the request line; `head` of request line and headers, `headers` how many.
        body: of a request.
        idle_s: a connection without a request.
        head_s: from the first byte of a request to the end of its headers.
        body_s: for a body, beyond what `body_rate` (bytes per second) needs.
        stalled_s: a client takes nothing of its answer.
        linger_s: what a refused client still sends is read for so long, so that it sees the answer.
        drain_s: requests in flight, once told to stop; then they end with an error.
        cut_s: for sending those; then they are cut.
    """

    connections: int = 4096
    target: int = 16 * 1024
    head: int = 64 * 1024
    headers: int = 128
    body: int = 64 * MIB
    idle_s: float = 75.0  # shorter, and a client would find the connection gone between two turns
    head_s: float = 20.0
    body_s: float = 60.0
    body_rate: float = 10_000.0
    stalled_s: float = 600.0
    linger_s: float = 10.0
    drain_s: float = 2.0
    cut_s: float = 3.0
    sweep_s: float = 1.0

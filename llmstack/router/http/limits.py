"""Limits of what the router accepts from a client, in size and in time."""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.units import MB


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Sizes in bytes, times in seconds.

    Attributes:
        connections: open at once; one more gets a 503.
        target: of the request line; `head` of request line and headers; `headers` is their number.
        body: of a request.
        idle_s: for a connection without a request.
        head_s: from the first byte of a request to the end of its headers.
        body_s: for a body, in addition to the time that it needs at `body_rate` (bytes per second).
        stalled_s: for a client that does not read its response.
        linger_s: for reading what a refused client still sends, so that it sees the response.
        drain_s: for requests in flight after a stop; then they end with an error.
        cut_s: for sending those errors; then the connections are closed.
        sweep_s: between two checks of the times above.
    """

    connections: int = 4096
    target: int = 16 * 1024
    head: int = 64 * 1024
    headers: int = 128
    body: int = 64 * MB
    idle_s: float = 75.0  # shorter, and clients would have to reconnect between two turns
    head_s: float = 20.0
    body_s: float = 60.0
    body_rate: float = 10_000.0
    stalled_s: float = 600.0
    linger_s: float = 10.0
    drain_s: float = 2.0
    cut_s: float = 3.0
    sweep_s: float = 1.0

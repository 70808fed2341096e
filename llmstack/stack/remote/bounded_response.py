"""Read a response of a router, whoever answers in its place: within a time and a size."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading

from llmstack.errors import LlmstackError
from llmstack.units import MB

MAX_BYTES = 16 * MB  # of a response; the status of 100 tiers has 100 KB


class ResponseTooLargeError(LlmstackError):
    """A response is larger than what a router sends."""


def read_response(connection: http.client.HTTPConnection, timeout_s: float) -> tuple[int, str]:
    """Return status and body of the response to the request that was sent.

    The timeout of the socket alone would end nothing that arrives byte by byte.

    Args:
        connection: connected; the request was sent.
        timeout_s: seconds for the whole response.

    Raises:
        TimeoutError: it took too long.
        ResponseTooLargeError: its body is larger than `MAX_BYTES`.
        OSError: the connection broke.
        http.client.HTTPException: what came is no HTTP, or not all of it.
    """
    opened: socket.socket = connection.sock  # the connection forgets it when the server closes
    is_late = threading.Event()

    def cut() -> None:
        is_late.set()
        with contextlib.suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, cut)
    timer.daemon = True
    timer.start()
    try:
        with connection.getresponse() as response:
            body = response.read(MAX_BYTES + 1)
            missing = response.length  # `read` with a size does not say so itself
    except (OSError, ValueError, http.client.HTTPException) as error:
        if is_late.is_set():
            raise TimeoutError from error
        if isinstance(error, ValueError):  # a chunk of negative length
            raise ConnectionError(f"it sends no valid HTTP: {error}") from error
        raise
    finally:
        timer.cancel()
    if is_late.is_set():
        raise TimeoutError
    if len(body) > MAX_BYTES:
        raise ResponseTooLargeError(
            f"{connection.host}:{connection.port} answered with more than {MAX_BYTES // MB} MB: "
            "expected an llmstack router there",
            hint="check address and port",
        )
    if missing:
        raise http.client.IncompleteRead(body, missing)
    return response.status, body.decode(errors="replace")

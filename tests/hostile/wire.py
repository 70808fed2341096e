"""What the router answered, read by h11: an implementation of HTTP that the router does not use."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11
from router.harness import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from router.harness import RunningRouter, ScriptedServer

DEADLINE_S = 10.0


@dataclass(frozen=True)
class Answer:
    """One complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The message of its error, which every error of the router has."""
        return str(json.loads(self.body)["error"]["message"])


def read_answers(data: bytes, methods: Sequence[str] = ()) -> list[Answer]:
    """Return the responses that a connection delivered until it ended.

    Args:
        data: all bytes of the router.
        methods: of the requests, if they are not all POST.

    Raises:
        h11.RemoteProtocolError: they are not a row of complete responses.
    """
    answers: list[Answer] = []
    while data:
        method = methods[len(answers)] if len(answers) < len(methods) else "POST"
        answer, data = _read_one(data, method)
        answers.append(answer)
    return answers


def _read_one(data: bytes, method: str) -> tuple[Answer, bytes]:
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**24)
    client.send(h11.Request(method=method, target="/", headers=[("host", "localhost")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    status, headers, body = 0, {}, b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
        elif not isinstance(event, h11.InformationalResponse):
            raise h11.RemoteProtocolError(f"the connection ended with {event}")
    return Answer(status, headers, body), client.trailing_data[0]


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send bytes on a connection of their own, and return everything until the router ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    try:
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def require_nothing_left(running: RunningRouter, server: ScriptedServer) -> None:
    """Verify that no request, lease, connection of a client or connection in use is left."""
    await wait_until(lambda: running.server.connections == 0, "every client's connection is closed")
    await running.wait_until_idle()
    await running.swapper.upstream.close()
    await wait_until(lambda: server.open == 0, "every connection to the server is closed")

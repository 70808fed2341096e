"""Requests to model servers. What forwards requests knows only these classes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import SimpleNamespace, TracebackType

CONNECT_S = 10.0
CHUNK_BYTES = 256 * 1024
IN_ONE_PIECE = 2**20  # bytes; aiohttp writes longer bodies in parts, so that others have their turn
# Of what a server answered, these describe its connection to us, are set anew, or are not its business.
_OWN_HEADERS = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade"),
        *("proxy-authenticate", "server", "date", "content-length"),
    )
)
_OWN_PREFIXES = ("access-control-", "x-llmstack-")


class UpstreamError(Exception):
    """The connection to a server failed or broke; the text says how."""


class Answer:
    """A server's answer, its body still to come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.headers.get("content-type", "").lower()
        nominated = {name.strip().lower() for name in response.headers.get("connection", "").split(",")}
        self.headers = [
            (name, value.decode("latin-1"))
            for raw, value in response.raw_headers
            if (name := raw.decode("latin-1").lower()) not in _OWN_HEADERS
            and not name.startswith(_OWN_PREFIXES)
            and name not in nominated
        ]

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self.content_type.startswith("text/event-stream")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            UpstreamError: it broke before its end.
        """
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UpstreamError(_describe(error)) from error

    async def read(self) -> bytes:
        """Return the whole body; UpstreamError where it broke."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection unless the whole body was read: that cancels the request at the server."""
        self._response.close()


class Upstream:
    """The HTTP client. Made inside a running event loop, closed with `close`."""

    def __init__(self) -> None:
        # llama.cpp closes a connection after 5 s idle
        self._pooled = _session(aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0))
        self._fresh = _session(aiohttp.TCPConnector(limit=0, force_close=True))

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request and wait for the status of the answer.

        llama.cpp advertises keep-alive and then closes the connection after every streamed response, and
        every hundred requests: a pooled connection may be dead. A used one that closes before the first
        byte is tried once more on a new one; a new one that does is the server's answer to this request.

        Raises:
            UpstreamError: the server cannot be reached, or the connection broke.
        """
        try:
            attempt = _Attempt()
            try:
                return await _send(self._pooled, method, url, headers, body, attempt=attempt)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not attempt.reused:
                    raise
                return await _send(self._fresh, method, url, headers, body, attempt=attempt)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UpstreamError(_describe(error)) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._pooled.close()
        await self._fresh.close()


@dataclass(slots=True)
class _Attempt:
    """One try to send a request: whether on a connection that had been used before."""

    reused: bool = False


async def _note_reuse(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    context.trace_request_ctx.reused = True


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
        auto_decompress=False,
        read_bufsize=CHUNK_BYTES,
        skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[trace],
    )


async def _send(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    attempt: _Attempt,
) -> Answer:
    response = await session.request(
        method,
        URL(url, encoded=True),
        headers=headers,
        data=(body if len(body) <= IN_ONE_PIECE else io.BytesIO(body)) or None,
        allow_redirects=False,
        trace_request_ctx=attempt,
    )
    return Answer(response)


def _describe(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or error.os_error}"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return f"the connection broke ({type(error).__name__})"

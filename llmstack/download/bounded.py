"""Requests whose responses are small: a body or a redirect of any size costs no more than its limit."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

MAX_REDIRECTS = 10


class BodyTooLargeError(Exception):
    """A response has more bytes than it may have."""


@contextlib.asynccontextmanager
async def follow_redirects(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str]
) -> AsyncIterator[httpx.Response]:
    """Request a URL and yield the response, with its body unread.

    httpx itself would read the whole body of every redirect. As there, another host gets no `Authorization`.

    Raises:
        httpx.HTTPError: the request failed, or there are too many redirects.
    """
    request = client.build_request("GET", url, headers={"accept-encoding": "identity", **headers})
    history: list[httpx.Response] = []
    while True:
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            if response.next_request is None:
                response.history = history
                yield response
                return
            history.append(response)
            request = response.next_request
        finally:
            await response.aclose()
        if len(history) > MAX_REDIRECTS:
            raise httpx.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects", request=request)


async def fetch_bounded(
    client: httpx.AsyncClient, url: str, *, max_bytes: int, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """Request a URL, follow redirects, and return the response with its body, which is not decompressed.

    Raises:
        BodyTooLargeError: the body has more than `max_bytes` bytes.
        httpx.HTTPError: the request failed, or there are too many redirects.
    """
    async with follow_redirects(client, url, headers or {}) as response:
        content = bytearray()
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > max_bytes:
                raise BodyTooLargeError(f"{url} sends more than {max_bytes} bytes")
        plain = {name: value for name, value in response.headers.items() if name != "content-encoding"}
        return httpx.Response(
            response.status_code, headers=plain, content=bytes(content), request=response.request
        )

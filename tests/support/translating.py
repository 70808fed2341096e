"""A server that translates one API to that of a fake provider, as the router does."""

from __future__ import annotations

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import httpx
from support.providers import KEY, provider, running

from llmstack.providers.model_aliases import load_bundled_aliases
from llmstack.providers.resolve import resolve
from llmstack.providers.translation import choose_dialect, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.providers import FakeProvider

    from llmstack.providers.catalog import Dialect
    from llmstack.providers.resolve import Endpoint

CHUNK_BYTES = 5  # so small that every event is split


@contextmanager
def translated(client: Dialect, kind: str, model: str) -> Iterator[tuple[str, FakeProvider]]:
    """Serve requests of the API `client` from a fake provider; yield the address and the provider."""
    with provider(kind) as fake:
        env = {f"{kind.upper()}_BASE_URL": fake.url, f"{kind.upper()}_API_KEY": KEY}
        endpoint = resolve(f"{kind}/{model}", env, load_bundled_aliases())
        dialect = choose_dialect(client, endpoint.dialects) or client
        assert dialect != client

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self._answer(body, client, dialect, endpoint)

            def _answer(self, body: bytes, client: Dialect, server: Dialect, endpoint: Endpoint) -> None:
                translated_request = translate(
                    body, client, server, model=endpoint.model, limits=endpoint.limits, now=1_700_000_000
                )
                headers = {**endpoint.default_headers(server), **endpoint.headers}
                with httpx.stream(
                    "POST", endpoint.url(server), content=translated_request.body, headers=headers
                ) as response:
                    if response.status_code != 200:
                        self._send(response.status_code, response.read())
                    elif not translated_request.streams:
                        self._send(200, translated_request.translate_response(response.read()))
                    else:
                        self.send_response(200)
                        self.send_header("content-type", "text/event-stream")
                        self.send_header("connection", "close")
                        self.end_headers()
                        stream = translated_request.start_stream()
                        for chunk in response.iter_bytes(CHUNK_BYTES):
                            self.wfile.write(stream.feed(chunk))
                        self.wfile.write(stream.close())
                        self.close_connection = True

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named so by the base class
                pass

        with running(Handler) as url:
            yield url, fake

"""Fake providers: they reject what the real ones reject, and record their requests."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from support import google_native, ollama_native
from support import provider_checks as checks
from support import provider_scripts as scripts
from support.provider_checks import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KEY", "FakeProvider", "provider", "running"]

Json = dict[str, Any]


@dataclass
class FakeProvider:
    """A fake provider.

    Attributes:
        kind: which provider it imitates.
        url: its address.
        requests: bodies of the requests, oldest first.
        headers: headers of the requests, names in lower case.
        failures: status and `retry-after` of the next responses, before it responds normally again.
    """

    kind: str
    url: str = ""
    requests: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)

    @property
    def last(self) -> Json:
        return self.requests[-1]


@contextmanager
def provider(kind: str) -> Iterator[FakeProvider]:  # noqa: C901 - the class closes over the fake
    """Run a fake provider: one of `anthropic`, `openai`, `google`, `mistral`, `local`, `ollama`."""
    fake = FakeProvider(kind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.requests.append(body)
            fake.headers.append(headers)
            check = checks.check_for(kind, self.path)
            try:
                if fake.failures:
                    status, wait = fake.failures.pop(0)
                    self._fail(status, "try later", wait)
                    return
                script, make_events, make_body = check(kind, self.path, headers, body)
            except checks.RequestRefusedError as error:
                self._fail(error.status, str(error))
                return
            if script.status != 200:
                message = f"{scripts.SECRET_IN_ERROR}{KEY}" if script.status == 401 else "as you wished"
                self._fail(script.status, message, script.retry_after)
            elif body.get("stream", self.path == ollama_native.PATH) or ":stream" in self.path:
                self._stream(make_events())
            else:
                self._send(200, make_body())

        def _fail(self, status: int, message: str, retry_after: str = "") -> None:
            if kind == "google":
                body = google_native.error(status, message, retry_after)
                is_native = ":" in self.path
                self._send(status, body if is_native else [body])
            elif self.path == ollama_native.PATH:
                self._send(status, {"error": message})
            else:
                make_error = scripts.anthropic_error if kind == "anthropic" else scripts.openai_error
                self._send(status, make_error(status, message), retry_after)

        def _send(self, status: int, body: Json | list[Json], retry_after: str = "") -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            if retry_after:
                self.send_header("retry-after", retry_after)
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, events: Iterator[bytes]) -> None:
            self.send_response(200)
            is_ndjson = self.path == ollama_native.PATH
            self.send_header("content-type", "application/x-ndjson" if is_ndjson else "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for event in events:
                self.wfile.write(event)
                self.wfile.flush()
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named so by the base class
            pass

    with running(Handler) as url:
        fake.url = url
        yield fake


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port; yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

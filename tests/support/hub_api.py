"""A fake model hub for look-ups: HEAD, Range, and the API's description of a repository."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DATE = "2026-03-04T05:06:07.000Z"


@dataclass
class FakeHubApi:
    """Repositories with their files, and a log of requests.

    Attributes:
        url: its address.
        files: content by `org/name/file`.
        sizes: by the same key; may exceed the content, to stand for a file too large to create.
        gated: repositories that require access to be granted.
        renamed: the current name of a repository by its former name.
        request_log: method, path and Range of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    request_log: list[tuple[str, str, str | None]] = field(default_factory=list)

    def add(self, repo: str, file: str, content: bytes, size: int | None = None) -> str:
        """Add a file, and return its ETag."""
        self.files[f"{repo}/{file}"] = content
        self.sizes[f"{repo}/{file}"] = size or len(content)
        return hashlib.sha256(content).hexdigest()

    def repositories(self) -> set[str]:
        return {"/".join(name.split("/")[:2]) for name in self.files}


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHubApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _route(self) -> None:
        hub = self.hub
        hub.request_log.append((self.command, self.path, self.headers.get("range")))
        if self.path.startswith("/api/models/"):
            self._describe_repo(self.path.removeprefix("/api/models/"))
        elif self.path.startswith("/storage/"):
            self._send_range(self.path.removeprefix("/storage/"))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/main/(.+)", self.path):
            self._resolve(*match.groups())
        else:
            self._send(404)

    def _describe_repo(self, repo: str) -> None:
        if repo not in self.hub.repositories():
            self._send(401, b'{"error": "Repository not found"}', x_error_code="RepoNotFound")
            return
        files = [name.split("/", 2)[2] for name in self.hub.files if name.startswith(f"{repo}/")]
        page = {"id": repo, "lastModified": DATE, "siblings": [{"rfilename": name} for name in files]}
        self._send(200, json.dumps(page).encode(), content_type="application/json")

    def _resolve(self, repo: str, file: str) -> None:
        hub, name = self.hub, f"{repo}/{file}"
        if repo in hub.renamed:
            self._send(307, location=f"/{hub.renamed[repo]}/resolve/main/{file}")
        elif repo in hub.gated:
            self._send(403, x_error_code="GatedRepo")
        elif repo not in hub.repositories():
            self._send(401, x_error_code="RepoNotFound")
        elif name not in hub.files:
            self._send(404, x_error_code="EntryNotFound")
        else:
            self._send(
                302,
                location=f"{hub.url}/storage/{name}",
                x_linked_size=str(hub.sizes[name]),
                x_linked_etag=f'"{hashlib.sha256(hub.files[name]).hexdigest()}"',
                x_repo_commit="c0ffee",
            )

    def _send_range(self, name: str) -> None:
        content = self.hub.files[name]
        requested = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if requested is None:
            self._send(200, content)
            return
        first, last = map(int, requested.groups())
        part = content[first : last + 1].ljust(last + 1 - first, b"\0")
        self._send(206, part, content_range=f"bytes {first}-{last}/{self.hub.sizes[name]}")


@contextlib.contextmanager
def running_hub_api() -> Iterator[FakeHubApi]:
    """Run a hub for the duration of the block."""
    hub = FakeHubApi()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

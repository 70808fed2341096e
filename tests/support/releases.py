"""A fake release page on loopback: `latest` redirects to a tag, and assets redirect to a storage host."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from llmstack.serving.llama_swap.release import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = b"#!/bin/sh\necho llama-swap\n"
ASSETS = [f"linux_{arch}" for arch in set(ARCHITECTURES.values())] + ["darwin_amd64", "darwin_arm64"]


def tar_gz(*members: tuple[str, bytes | str]) -> bytes:
    """Return an archive; content that is a str is the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class ReleasePage:
    """The state of the page.

    Attributes:
        archives: by version.
        latest: the version that `latest` redirects to.
        checksum: published instead of the right one, unless None.
        padding: follows the checksums.
        requests: the path of every request.
    """

    archives: dict[str, bytes] = field(default_factory=dict)
    latest: str = "251"
    checksum: str | None = None
    padding: bytes = b""
    requests: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/org/llama-swap"

    def respond(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(path)
        name = path.removeprefix("/org/llama-swap/releases/")
        if name == "latest":
            return 302, {"Location": f"{self.url}/releases/tag/v{self.latest}"}, b""
        if name.startswith("download/"):
            return 302, {"Location": f"http://localhost:{self.port}/storage/{name.split('/', 1)[1]}"}, b""
        version, _, name = path.removeprefix("/storage/v").partition("/")
        archive = self.archives.get(version)
        if archive is None:
            return 404, {}, b"not found"
        if name.endswith("_checksums.txt"):
            digest = self.checksum or hashlib.sha256(archive).hexdigest()
            lines = [f"{digest}  llama-swap_{version}_{asset}.tar.gz\n" for asset in ASSETS]
            return 200, {}, "".join(lines).encode() + self.padding
        return 200, {}, archive


@contextmanager
def running_release_page() -> Iterator[ReleasePage]:
    """Run the page for the duration of the block."""
    page = ReleasePage(
        {"250": tar_gz(("llama-swap", PROGRAM)), "251": tar_gz(("llama-swap", PROGRAM + b"#"))}
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = page.respond(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    page.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield page
    finally:
        server.shutdown()
        server.server_close()

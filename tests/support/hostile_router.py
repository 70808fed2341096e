"""Servers that answer in place of a router, and projects that use them."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.project import CliProject

from llmstack.process.identity import Daemon, Identity, write_pid_file
from llmstack.router_proof import CHALLENGE_PATH, RouterIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIER: dict[str, Any] = {
    "name": "code-fast",
    "role": "fast",
    "backend": "gguf",
    "model": "a model",
    "channel": "current",
    "ctx_size": 16_384,
    "can_start": True,
    "state": "resident",
    "pid": None,
    "port": None,
    "since": 1.0,
    "leases": 0,
    "waiting": 0,
    "loads": 1,
    "detail": "",
}
REQUEST: dict[str, Any] = {
    "id": "1",
    "at": 1.0,
    "path": "/v1/chat/completions",
    "asked": "auto",
    "tier": "code-fast",
    "reason": "short",
    "tokens": 1,
    "status": 200,
    "first_byte_s": 0.1,
    "total_s": 0.1,
    "outcome": "ok",
}
STATUS: dict[str, Any] = {
    "work_dir": "/project",
    "channel": "current",
    "started": 1.0,
    "in_flight": 0,
    "swapper": {
        "kind": "builtin",
        "engine": "bundled",
        "budget_gb": 1.0,
        "sets": [["code-fast"]],
        "prompt_cache": "saved",
    },
    "backends": {
        "litellm": {
            "state": "up",
            "pid": None,
            "port": 1,
            "ui": "http://ui",
            "mcp": "http://mcp",
            "key_file": "/key",
            "detail": "",
        }
    },
    "preload": "code-fast",
    "tiers": [TIER],
    "recent": [REQUEST],
}
ROUTE: dict[str, Any] = {
    "tier": "code-fast",
    "reason": "short",
    "others": ["plan"],
    "considered": [{"rule": "short", "tier": "code-fast", "detail": "1 token"}],
    "conversation_tokens": 1,
    "context_tokens": 1,
    "session_known": False,
}
RELOAD: dict[str, Any] = {
    "changed": ["code-fast"],
    "unavailable": {"plan": "no file"},
    "cut": ["one request"],
}
TOKEN = "token-of-the-owner"
MODELS_INI = "[DEFAULT]\nctx_size = 16k\n[code-fast]\nrole = fast\npath = /m.gguf\n"


def documents(**changed: Any) -> dict[str, bytes]:
    """Return what a router answers, by path; `changed` replaces some: `status`, `route`, `reload`, …"""
    answers = {
        "/llmstack/status": STATUS,
        "/llmstack/route": ROUTE,
        "/llmstack/reload": RELOAD,
        "/llmstack/load": {"tier": "code-fast", "state": "resident"},
        "/llmstack/unload": {"unloaded": ["code-fast"]},
    }
    answers |= {f"/llmstack/{name}": value for name, value in changed.items()}
    encoded = {
        path: value if isinstance(value, bytes) else json.dumps(value).encode()
        for path, value in answers.items()
    }
    return {"/models.ini": MODELS_INI.encode(), **encoded}


@contextmanager
def answering(answers: dict[str, bytes], status: int = 200) -> Iterator[str]:
    """Run a server that answers a request with the value of the longest path that it begins with."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            body = next(
                (body for path, body in sorted(answers.items(), reverse=True) if self.path.startswith(path)),
                b"{}",
            )
            is_challenge = self.path.startswith(CHALLENGE_PATH)
            if is_challenge:  # the worst case: it has got hold of the token
                port = int(self.connection.getsockname()[1])
                identity = RouterIdentity(TOKEN, port, None)
                body = json.dumps(identity.answer(self.path.rpartition("=")[2])).encode()
            self.send_response(200 if is_challenge else status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def speaking(speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server that lets `speak` answer each connection, in bytes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve_one(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65_536)
                speak(connection)
            except OSError:
                return  # the client has left, as it should

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


@contextmanager
def thin_client(directory: Path, url: str) -> Iterator[CliProject]:
    """Create a trusted project that uses the router at `url`."""
    project = CliProject(directory)
    project.state.mkdir(parents=True)
    with answering(documents()) as honest:
        project.run("install", "--external", honest).check()
    (project.state / "default-channel").write_text(f"external {url}\n")
    project.run("trust", "--yes").check()
    yield project


@contextmanager
def own_router(directory: Path, url: str) -> Iterator[CliProject]:
    """Create an installed project whose pid file says that its router listens at `url`."""
    project = CliProject(directory, port=int(url.rpartition(":")[2]))
    project.directory.mkdir(parents=True)
    project.install(tiers=("code-fast",))
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = Identity.from_pid(process.pid)
    assert identity is not None
    write_pid_file(project.state / "router.pid", Daemon(identity, ("router",), project.port))
    project.private.create()
    project.private.router_token.write_text(TOKEN)
    try:
        yield project
    finally:
        (project.state / "router.pid").unlink(missing_ok=True)
        process.kill()
        process.communicate()

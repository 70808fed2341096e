"""A fake native `llama-server`: it listens, requires its key, and ignores SIGTERM if asked to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """#!{python}
import http.server, os, signal, sys, threading
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "--fails" in sys.argv:
    sys.exit("the weights are cursed")

PREFIX = os.environ.get("LLAMA_ARG_API_PREFIX", "")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        key = os.environ.get("LLAMA_API_KEY")  # unset under llama-swap
        authorized = key is None or self.headers.get("authorization") == "Bearer " + key
        has_prefix, path = self.path.startswith(PREFIX + "/"), self.path.removeprefix(PREFIX)
        self.send_response(404 if not has_prefix else 200 if authorized or path == "/health" else 401)
        self.end_headers()
        if self.path == "/exit":
            threading.Thread(target=os._exit, args=(7,)).start()

    def log_message(self, *_):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
print("pid", os.getpid(), flush=True)
server.serve_forever()
"""


def native_server(directory: Path) -> Path:
    """Write the program into a directory and return its path."""
    path = directory / "llama-server"
    path.write_text(SOURCE.format(python=sys.executable))
    path.chmod(0o755)
    return path

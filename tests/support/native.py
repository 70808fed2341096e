"""A fake native `llama-server`: it listens, requires its key, and ignores SIGTERM if asked to.

Its help says what llama-server's says about `--host`, unless it is to be one from before April 2025.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """#!{python}
import http.server, os, signal, socket, sys, threading
if "--help" in sys.argv:
    print("--host HOST   {host_help}")
    sys.exit()
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

class UnixServer(http.server.ThreadingHTTPServer):
    address_family = getattr(socket, "AF_UNIX", None)

    def server_bind(self):
        self.socket.bind(self.server_address)

host = sys.argv[sys.argv.index("--host") + 1] if "--host" in sys.argv else "127.0.0.1"
if host.endswith(".sock"):
    Handler.address_string = lambda self: host
    server = UnixServer(host, Handler)
else:
    port = int(sys.argv[sys.argv.index("--port") + 1])
    server = http.server.ThreadingHTTPServer((host, port), Handler)
print("pid", os.getpid(), flush=True)
server.serve_forever()
"""


HOST_HELP = "ip address to listen, or bind to an UNIX socket if the address ends with .sock"
OLD_HOST_HELP = "ip address to listen (default: 127.0.0.1)"


def native_server(directory: Path, *, old: bool = False) -> Path:
    """Write the program into a directory and return its path; an old one knows no Unix sockets."""
    path = directory / "llama-server"
    path.write_text(SOURCE.format(python=sys.executable, host_help=OLD_HOST_HELP if old else HOST_HELP))
    path.chmod(0o755)
    return path

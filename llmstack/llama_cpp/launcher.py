"""Run a program that ends with its parent: `python -m llmstack.llama_cpp.launcher ARGV…`.

Neither llama-server nor llama-swap watches its parent. Standard library only, to start in a few milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

from llmstack.llama_cpp.parent_watch import die_with_parent, take_watch_mode, watch_parent

GRACE_S = 4.0


def main() -> None:
    """Run the command line in `sys.argv`; stop it on SIGTERM, SIGINT or when the parent has ended."""
    watch_mode = take_watch_mode()
    os.umask(0o077)  # saved prompt caches contain conversations
    before_exec = None if os.name == "nt" else die_with_parent
    try:
        server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, preexec_fn=before_exec)  # noqa: PLW1509 - no threads yet
    except OSError as error:
        sys.exit(f"error: cannot start {sys.argv[1]}: {error.strerror or error}")

    def stop_server() -> None:
        with contextlib.suppress(OSError):
            server.terminate()
        try:
            server.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            server.kill()

    def on_signal(_signum: int, _frame: object) -> None:
        threading.Thread(target=stop_server, daemon=True).start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    watch_parent(watch_mode, stop_server)
    code = server.wait()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()

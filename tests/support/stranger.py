"""A process of another user of this machine, for tests that run as root: it takes ports and opens sockets."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = 65_534
needs_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can act as another user"
)
# The modules are imported first: the other user need not be able to read them.
_BECOME_NOBODY = f"""
import contextlib, encodings.idna, http.client, http.server, json, os, socket, socketserver, sys
import threading, time
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
"""
# Waits until the port is free, answers every request with 200 and what a model server would say,
# and prints every byte that it is sent.
_SERVE = """
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
while True:
    try:
        server.bind(("127.0.0.1", int(sys.argv[1])))
        server.listen()
        break
    except OSError:
        time.sleep(0.0002)
print("listening", flush=True)
CHOICES = [{"message": {"role": "assistant", "content": "forged"}, "finish_reason": "stop"}]
BODY = json.dumps({"status": "ok", "running": [], "data": [], "choices": CHOICES})
HEADERS = f"content-type: application/json\\r\\ncontent-length: {len(BODY)}\\r\\n"
ANSWER = f"HTTP/1.1 200 OK\\r\\n{HEADERS}\\r\\n{BODY}"

def answer(connection):
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            os.write(1, data)
            connection.sendall(ANSWER.encode())

while True:
    connection, _ = server.accept()
    threading.Thread(target=answer, args=(connection,), daemon=True).start()
"""
_OPEN = """
try:
    print(os.listdir(os.path.dirname(sys.argv[1])))
except OSError as error:
    print("list:", type(error).__name__)
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    print("connected")
except OSError as error:
    print("connect:", type(error).__name__)
"""


class Stranger:
    """A server of the other user.

    Args:
        process: its process.
        output: the file with what it printed.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process = process
        self._output = output

    @property
    def is_listening(self) -> bool:
        """Whether it has got the port."""
        return self._output.read_bytes().startswith(b"listening")

    @property
    def received(self) -> bytes:
        """Every byte that it was sent."""
        return self._output.read_bytes().removeprefix(b"listening\n")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid


@contextmanager
def stranger_on(port: int, directory: Path) -> Iterator[Stranger]:
    """Let the other user take a port, as soon as it is free, and answer everybody who asks there."""
    output = directory / f"stranger-{port}"
    with output.open("wb") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-c", _BECOME_NOBODY + _SERVE, str(port)], stdout=stdout, cwd="/"
        )
    try:
        yield Stranger(process, output)
    finally:
        process.kill()
        process.wait()


@contextmanager
def program_of_stranger(code: str, *args: str, output: Path) -> Iterator[None]:
    """Run Python code as the other user until the block ends; what it prints is written to `output`."""
    with output.open("wb") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", _BECOME_NOBODY + code, *args], stdout=stdout, cwd="/"
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run_as_stranger(code: str, *args: str) -> str:
    """Run Python code as the other user; return what it prints."""
    command = [sys.executable, "-c", _BECOME_NOBODY + code, *args]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout


def try_to_open(path: Path) -> str:
    """Let the other user list the directory of a socket and connect to it; return what happened."""
    return run_as_stranger(_OPEN, str(path))

"""Which sign of its parent's end a child goes by."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from support.native import native_server
from support.net import free_port
from support.waiting import wait_until

from llmstack.llama_cpp.binary import EngineBinary
from llmstack.llama_cpp.parent_watch import LIFELINE, PARENT_PID, PIPE_ONLY

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes have no new parent there")

# Starts its arguments as llama-swap does: in a group of their own, with nothing at stdin.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, process_group=0)
print("child", child.pid, flush=True)
time.sleep(60)
"""


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def below(parent: psutil.Popen) -> list[psutil.Process]:
    return psutil.Process(parent.pid).children(recursive=True)


def test_under_llama_swap_it_outlives_its_stdin_and_ends_with_its_parent(tmp_path: Path) -> None:
    argv = EngineBinary("native", native_server(tmp_path)).argv(("--port", str(free_port())))
    env = {**os.environ, LIFELINE: PARENT_PID, "LLAMA_API_KEY": "k"}
    parent = psutil.Popen([sys.executable, "-c", PARENT, *argv], env=env, stdout=subprocess.PIPE)
    try:
        wait_until(lambda: len(below(parent)) == 2)
        family = below(parent)
        assert parent.stdout.readline().startswith(b"child")
        assert parent.stdout.readline().startswith(b"pid")  # the server is up, and stdin was closed all along
        assert not any(gone(process) for process in family)
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: all(gone(process) for process in family), timeout=5)


def test_by_its_pipe_alone_it_ends_gently(tmp_path: Path) -> None:
    """Killed with its parent it could not stop what it started itself."""
    said = tmp_path / "said"
    gentle = (
        "import signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(said)!r}, 'w').write('bye'), sys.exit()))\n"
        "print('up', flush=True)\ntime.sleep(60)\n"
    )
    argv = [sys.executable, "-P", "-m", "llmstack.llama_cpp.launcher", sys.executable, "-c", gentle]
    starter = (
        "import subprocess, sys, time\n"
        "subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "time.sleep(60)\n"
    )
    env = {**os.environ, LIFELINE: PIPE_ONLY}
    parent = psutil.Popen([sys.executable, "-c", starter, *argv], env=env, stdout=subprocess.PIPE)
    try:
        assert parent.stdout.readline() == b"up\n"
        family = below(parent)
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: all(gone(process) for process in family), timeout=5)
    assert said.read_text() == "bye"


def test_it_is_not_passed_on(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", "-m", "llmstack.llama_cpp.launcher"]
    show = [sys.executable, "-c", f"import os; print(os.environ.get({LIFELINE!r}))"]
    env = {**os.environ, LIFELINE: PARENT_PID}
    done = subprocess.run([*argv, *show], env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"

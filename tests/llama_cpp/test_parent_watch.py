"""How a child notices that its parent has ended, in each watch mode."""

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
from llmstack.llama_cpp.parent_watch import PARENT_PID, PIPE_ONLY, WATCH_MODE_VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="on Windows an orphan keeps its parent pid")

# Starts its arguments as llama-swap does: in a process group of their own, with an empty stdin.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, process_group=0)
print("child", child.pid, flush=True)
time.sleep(60)
"""


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def descendants(parent: psutil.Popen) -> list[psutil.Process]:
    return psutil.Process(parent.pid).children(recursive=True)


def test_under_llama_swap_a_child_ends_with_its_parent_and_not_with_its_stdin(tmp_path: Path) -> None:
    argv = EngineBinary("native", native_server(tmp_path)).argv(("--port", str(free_port())))
    env = {**os.environ, WATCH_MODE_VARIABLE: PARENT_PID, "LLAMA_API_KEY": "k"}
    parent = psutil.Popen([sys.executable, "-c", PARENT, *argv], env=env, stdout=subprocess.PIPE)
    try:
        wait_until(lambda: len(descendants(parent)) == 2)
        processes = descendants(parent)
        assert parent.stdout.readline().startswith(b"child")
        assert parent.stdout.readline().startswith(
            b"pid"
        )  # the server runs although stdin has been closed from the start
        assert not any(has_ended(process) for process in processes)
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: all(has_ended(process) for process in processes), timeout=5)


def test_with_the_pipe_alone_the_program_gets_sigterm(tmp_path: Path) -> None:
    """If the kernel killed it with its parent, it could not stop its own children."""
    farewell = tmp_path / "farewell"
    program = (
        "import signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(farewell)!r}, 'w').write('bye'), sys.exit()))\n"
        "print('up', flush=True)\ntime.sleep(60)\n"
    )
    argv = [sys.executable, "-P", "-m", "llmstack.llama_cpp.launcher", sys.executable, "-c", program]
    starter = (
        "import subprocess, sys, time\n"
        "subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "time.sleep(60)\n"
    )
    env = {**os.environ, WATCH_MODE_VARIABLE: PIPE_ONLY}
    parent = psutil.Popen([sys.executable, "-c", starter, *argv], env=env, stdout=subprocess.PIPE)
    try:
        assert parent.stdout.readline() == b"up\n"
        processes = descendants(parent)
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: all(has_ended(process) for process in processes), timeout=5)
    assert farewell.read_text() == "bye"


def test_the_watch_mode_is_not_inherited(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", "-m", "llmstack.llama_cpp.launcher"]
    show = [sys.executable, "-c", f"import os; print(os.environ.get({WATCH_MODE_VARIABLE!r}))"]
    env = {**os.environ, WATCH_MODE_VARIABLE: PARENT_PID}
    done = subprocess.run([*argv, *show], env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"

"""How a child process notices that its parent has ended. Standard library only: it runs in every child.

The environment variable `LLMSTACK_LIFELINE` selects what to watch. By default a child uses both means that
the router provides: on Linux the kernel's signal when the parent dies, and the end of the pipe at stdin.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h
WATCH_MODE_VARIABLE = "LLMSTACK_LIFELINE"
PIPE_ONLY = (
    "pipe"  # only the pipe, so that the child has time to stop its own children; the kernel would kill it
)
PARENT_PID = "parent"  # only a change of the parent's pid, as llama-swap gives its children no pipe
POLL_S = 0.5


def take_watch_mode() -> str:
    """Remove the watch mode from the environment, so that children do not inherit it, and return it.

    Unless the mode excludes it, also ask the kernel to kill this process when its parent ends.
    """
    mode = os.environ.pop(WATCH_MODE_VARIABLE, "")
    if mode not in {PIPE_ONLY, PARENT_PID}:
        die_with_parent()
    return mode


def watch_parent(mode: str, callback: Callable[[], None]) -> None:
    """Call `callback` from a thread when the parent has ended, unless the kernel kills this process first."""
    if mode == PARENT_PID:
        # Not the kernel's signal: it is sent when the parent's thread ends, and Go's threads come and go.
        watch_parent_pid(callback)
    else:
        watch_stdin(callback)


def die_with_parent() -> None:
    """On Linux, ask the kernel to kill this process when its parent ends; elsewhere do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def watch_stdin(callback: Callable[[], None]) -> None:
    """Call `callback` from a thread when stdin, a pipe from the router, is closed."""

    def watch() -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass  # a stdin that cannot be read counts as closed
        callback()

    threading.Thread(target=watch, daemon=True).start()


def watch_parent_pid(callback: Callable[[], None]) -> None:
    """Call `callback` from a thread when this process gets another parent (never on Windows)."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        callback()

    threading.Thread(target=watch, daemon=True).start()

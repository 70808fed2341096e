"""How a child notices that its parent is gone. Standard library only: it runs in every child.

Which sign counts is said by `LLMSTACK_LIFELINE`; without it both are watched that the router gives its own
children: the kernel's, on Linux, and the end of the pipe at stdin.
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
LIFELINE = "LLMSTACK_LIFELINE"
PIPE_ONLY = "pipe"  # the end of the pipe alone: time to end one's own children, where the kernel would kill
PARENT_PID = "parent"  # another parent id: for what llama-swap starts, which gets no pipe
WATCH_S = 0.5


def take_lifeline() -> str:
    """Return which sign counts for this process, not for its children; let the kernel act where it may."""
    kind = os.environ.pop(LIFELINE, "")
    if kind not in {PIPE_ONLY, PARENT_PID}:
        die_with_parent()
    return kind


def hold_on(kind: str, act: Callable[[], None]) -> None:
    """Call `act` from a thread once the parent is gone, as far as the kernel has not acted."""
    if kind == PARENT_PID:
        # Not the kernel's signal: it is tied to the thread that started us, and Go's come and go.
        on_parent_changed(act)
    else:
        on_parent_gone(act)


def die_with_parent() -> None:
    """On Linux, let the kernel kill this process when its parent ends; elsewhere the pipe must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def on_parent_gone(act: Callable[[], None]) -> None:
    """Call `act` from a thread once stdin, a pipe whose other end the router holds, is closed."""

    def watch() -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass  # a stdin that cannot be read is as good as closed
        act()

    threading.Thread(target=watch, daemon=True).start()


def on_parent_changed(act: Callable[[], None]) -> None:
    """Call `act` from a thread once this process has been handed to another parent (not on Windows)."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        act()

    threading.Thread(target=watch, daemon=True).start()

"""How a model server notices that the router is gone. Standard library only: it runs in every child."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h


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

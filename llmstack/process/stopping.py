"""Stop a process and all its descendants: SIGTERM, a grace period, then SIGKILL."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmstack.process.identity import Identity

KILL_WAIT_S = 5.0
CHILDREN_WAIT_S = 1.0
FIRST_POLL_S, LAST_POLL_S = 0.005, 0.05


def stop_tree(identity: Identity, *, grace_s: float) -> bool:
    """Stop a process and its descendants.

    Args:
        identity: the process. Nothing happens if it has ended, even if its pid is in use again.
        grace_s: how many seconds after SIGTERM it may take to end.

    Returns:
        Whether it ended without SIGKILL.
    """
    process = identity.process()
    if process is None:
        return True
    descendants = _descendants(process)
    with contextlib.suppress(psutil.Error):
        process.terminate()
    ended_in_time = not _wait([process], grace_s)
    # Listed again: it may have started more children. They get time only if it could tell them to end.
    survivors = _wait({*descendants, *_descendants(process)}, CHILDREN_WAIT_S if ended_in_time else 0)
    for survivor in [*survivors, process]:
        with contextlib.suppress(psutil.Error):
            survivor.kill()
    _wait([*survivors, process], KILL_WAIT_S)
    return ended_in_time


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _wait(processes: Iterable[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait until the processes have ended; return those that still run after the timeout.

    A zombie counts as ended: in a container without an init nobody ever reaps it.
    """
    deadline, delay = time.monotonic() + timeout_s, FIRST_POLL_S
    while running := [process for process in processes if _is_running(process)]:
        if (remaining := deadline - time.monotonic()) <= 0:
            break
        time.sleep(min(delay, remaining))
        delay = min(2 * delay, LAST_POLL_S)
    return running


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False

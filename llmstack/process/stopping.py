"""The stop ladder: ask, wait, then kill; a process and everything below it."""

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
        identity: the process; nothing happens if it has ended or its pid was used again.
        grace_s: seconds it gets to end by itself after SIGTERM.

    Returns:
        Whether it ended by itself, without SIGKILL.
    """
    process = identity.process()
    if process is None:
        return True
    family = _descendants(process)
    with contextlib.suppress(psutil.Error):
        process.terminate()
    gone_in_time = not _wait([process], grace_s)
    # A parent that was killed cannot end its children; one that ended itself may have lost some.
    survivors = _wait({*family, *_descendants(process)}, CHILDREN_WAIT_S if gone_in_time else 0)
    for survivor in [*survivors, process]:
        with contextlib.suppress(psutil.Error):
            survivor.kill()
    _wait([*survivors, process], KILL_WAIT_S)
    return gone_in_time


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _wait(processes: Iterable[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Return those that still run after that time.

    A zombie has ended, even where nobody ever reaps it, as in a container without an init.
    """
    deadline, delay = time.monotonic() + timeout_s, FIRST_POLL_S
    while running := [process for process in processes if _runs(process)]:
        if (left := deadline - time.monotonic()) <= 0:
            break
        time.sleep(min(delay, left))
        delay = min(2 * delay, LAST_POLL_S)
    return running


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False

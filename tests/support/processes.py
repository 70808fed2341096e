"""Processes that a test starts and must end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psutil
import pytest
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def require_no_process_left() -> Iterator[None]:
    """Fail if the block leaves a process running that it started."""
    here = psutil.Process()
    before = set(here.children(recursive=True))
    yield

    def left() -> list[str]:
        found = []
        for process in set(here.children(recursive=True)) - before:
            try:
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {process.cmdline()}")
            except psutil.Error:
                continue
        return found

    try:
        wait_until(lambda: not left(), timeout=3)
    except TimeoutError:
        pytest.fail(f"processes left: {left()}")

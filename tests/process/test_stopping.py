from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from support.waiting import wait_until

from llmstack.process.identity import Identity
from llmstack.process.stopping import stop_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHILD = """
import signal, sys, time, pathlib
if "stubborn" in sys.argv[1]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[2]).touch()
time.sleep(60)
"""
PARENT = """
import signal, subprocess, sys, time, pathlib
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[3], sys.argv[4] + ".child"])
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
while not pathlib.Path(sys.argv[4] + ".child").exists():
    time.sleep(0.01)
pathlib.Path(sys.argv[4]).touch()
time.sleep(60)
"""


@contextlib.contextmanager
def family(
    tmp_path: Path, parent: str, child: str
) -> Iterator[tuple[Identity, psutil.Process, psutil.Process]]:
    ready = tmp_path / "ready"
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD, parent, child, str(ready)]) as leader:
        try:
            wait_until(ready.exists)
            first = psutil.Process(leader.pid)
            (second,) = first.children()
            yield Identity(leader.pid, first.create_time()), first, second
        finally:
            for process in (
                psutil.Process(leader.pid).children(recursive=True) if leader.poll() is None else []
            ):
                process.kill()
            leader.kill()


@pytest.mark.parametrize(
    ("parent", "child", "in_time"),
    [("gentle", "gentle", True), ("gentle", "stubborn", True), ("stubborn", "stubborn", False)],
)
def test_a_process_and_its_children_are_stopped(
    tmp_path: Path, parent: str, child: str, *, in_time: bool
) -> None:
    with family(tmp_path, parent, child) as (identity, first, second):
        start = time.monotonic()
        assert stop_tree(identity, grace_s=5.0 if in_time else 0.2) is in_time
        assert time.monotonic() - start < 3
        wait_until(lambda: not second.is_running() or second.status() == psutil.STATUS_ZOMBIE)
        assert not first.is_running() or first.status() == psutil.STATUS_ZOMBIE


def test_another_process_with_the_same_pid_is_not_stopped(tmp_path: Path) -> None:
    with family(tmp_path, "gentle", "gentle") as (identity, first, second):
        for start_time in (identity.start_time - 10, float("nan")):
            assert stop_tree(Identity(identity.pid, start_time), grace_s=1) is True
        assert first.is_running()
        assert second.is_running()
        assert stop_tree(identity, grace_s=5)


def test_a_zombie_that_is_never_reaped_counts_as_ended(tmp_path: Path) -> None:
    """As in a container whose first process does not reap its children."""
    with family(tmp_path, "gentle", "gentle") as (parent, _, child):
        start = time.monotonic()
        assert stop_tree(Identity(child.pid, child.create_time()), grace_s=5) is True
        assert time.monotonic() - start < 2
        assert child.status() == psutil.STATUS_ZOMBIE
        stop_tree(parent, grace_s=5)


def test_stopping_again_does_nothing(tmp_path: Path) -> None:
    with family(tmp_path, "gentle", "gentle") as (identity, _, _):
        assert stop_tree(identity, grace_s=5)
        assert stop_tree(identity, grace_s=5)

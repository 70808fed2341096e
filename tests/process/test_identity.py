from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from llmstack.errors import LlmstackError
from llmstack.process.identity import Daemon, Identity, read_pid_file, running, write_pid_file

if TYPE_CHECKING:
    from pathlib import Path


def test_this_process_is_alive_and_itself() -> None:
    me = Identity.of(os.getpid())
    assert me is not None
    assert me.alive
    process = me.process()
    assert process is not None
    assert process.pid == os.getpid()


def test_another_start_time_is_another_process() -> None:
    me = Identity(os.getpid(), psutil.Process().create_time())
    assert Identity(me.pid, me.started + 0.5).alive  # the clock was corrected
    for started in (me.started - 5, me.started + 5, 0.0, float("nan"), float("inf")):
        assert not Identity(me.pid, started).alive


def test_a_corrected_clock_makes_nobody_somebody_else() -> None:
    """Linux derives start times from the clock: they move with it, as they do when a laptop wakes up."""
    me = Identity.of(os.getpid())
    assert me is not None
    assert bool(me.birth) == sys.platform.startswith("linux")
    assert replace(me, started=me.started + 3600).alive == bool(me.birth)
    assert not replace(me, birth=f"{me.birth}0").alive
    assert Identity.from_token(me.token).alive
    with pytest.raises(ValueError, match="unpack"):
        Identity.from_token("1")


@pytest.mark.parametrize("pid", [-1, 2**22 + 1, 10**30])
def test_a_pid_that_nobody_has(pid: int) -> None:
    assert Identity.of(pid) is None
    assert not Identity(pid, 0.0).alive


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    identity = Identity.of(child.pid)
    assert identity is not None
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.alive
    child.wait()


def test_a_pid_file_says_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "state" / "router.pid"
    me = Identity.of(os.getpid())
    assert me is not None
    daemon = Daemon(me, ("python", "-m", "x"), 10101)
    assert read_pid_file(path) is None
    assert running(path) is None
    write_pid_file(path, daemon)
    assert read_pid_file(path) == running(path) == daemon
    write_pid_file(path, Daemon(Identity(me.pid, me.started - 60), ("python",), 10101))
    assert running(path) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "12",
        "{}",
        "[]",
        "\udcff",
        '{"pid": "x", "started": 1, "argv": [], "port": 1}',
        '{"pid": Infinity, "started": 1, "argv": [], "port": 1}',
        '{"pid": 1, "started": 1, "argv": null, "port": 1}',
        "[" * 100_000,
    ],
)
def test_something_else_than_a_pid_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "router.pid"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(LlmstackError, match="expected a pid file written by llmstack") as refused:
        read_pid_file(path)
    assert refused.value.hint == f"see what runs with `llmstack status`, then delete {path}"


def test_a_pid_file_that_came_with_a_repository_names_nobody(tmp_path: Path) -> None:
    """It cannot know when a process of this machine started, and must not get around knowing it."""
    path = tmp_path / "router.pid"
    path.write_text(json.dumps({"pid": os.getpid(), "started": float("nan"), "argv": [], "port": 1}))
    assert running(path) is None

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
from llmstack.process.identity import Daemon, Identity, read_pid_file, running_daemon, write_pid_file

if TYPE_CHECKING:
    from pathlib import Path


def test_this_process_is_alive() -> None:
    me = Identity.from_pid(os.getpid())
    assert me is not None
    assert me.is_alive
    process = me.process()
    assert process is not None
    assert process.pid == os.getpid()


def test_another_start_time_is_another_process() -> None:
    me = Identity(os.getpid(), psutil.Process().create_time())
    assert Identity(me.pid, me.start_time + 0.5).is_alive  # the clock was corrected
    for start_time in (me.start_time - 5, me.start_time + 5, 0.0, float("nan"), float("inf")):
        assert not Identity(me.pid, start_time).is_alive


def test_a_corrected_clock_does_not_change_an_identity() -> None:
    """Linux computes start times from the clock, so they change with it, as when a laptop wakes up."""
    me = Identity.from_pid(os.getpid())
    assert me is not None
    assert bool(me.birth) == sys.platform.startswith("linux")
    assert replace(me, start_time=me.start_time + 3600).is_alive == bool(me.birth)
    assert not replace(me, birth=f"{me.birth}0").is_alive
    assert Identity.from_token(me.token).is_alive
    with pytest.raises(ValueError, match="unpack"):
        Identity.from_token("1")


@pytest.mark.parametrize("pid", [-1, 2**22 + 1, 10**30])
def test_a_pid_that_is_not_in_use(pid: int) -> None:
    assert Identity.from_pid(pid) is None
    assert not Identity(pid, 0.0).is_alive


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    identity = Identity.from_pid(child.pid)
    assert identity is not None
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.is_alive
    child.wait()


def test_a_pid_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "state" / "router.pid"
    me = Identity.from_pid(os.getpid())
    assert me is not None
    daemon = Daemon(me, ("python", "-m", "x"), 10101)
    assert read_pid_file(path) is None
    assert running_daemon(path) is None
    write_pid_file(path, daemon)
    assert read_pid_file(path) == running_daemon(path) == daemon
    write_pid_file(path, Daemon(Identity(me.pid, me.start_time - 60), ("python",), 10101))
    assert running_daemon(path) is None


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
def test_a_file_that_is_no_pid_file_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "router.pid"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(LlmstackError, match="expected a pid file written by llmstack") as raised:
        read_pid_file(path)
    assert raised.value.hint == f"see what runs with `llmstack status`, then delete {path}"


def test_a_pid_file_from_a_repository_matches_no_process(tmp_path: Path) -> None:
    """Its author cannot know the start times of this machine's processes, and NaN must not match any."""
    path = tmp_path / "router.pid"
    path.write_text(json.dumps({"pid": os.getpid(), "started": float("nan"), "argv": [], "port": 1}))
    assert running_daemon(path) is None

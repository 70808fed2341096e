from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from support.waiting import wait_until

from llmstack.process.leftovers import INSTANCE_VARIABLE, find_instance, instance_id, stop_instance

if TYPE_CHECKING:
    from pathlib import Path

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
)


def test_each_project_has_its_own_id(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert instance_id(tmp_path / "a") == instance_id(tmp_path / "link")
    assert instance_id(tmp_path / "a") != instance_id(tmp_path / "b")


def test_only_processes_with_the_id_are_stopped(tmp_path: Path) -> None:
    ours, theirs = instance_id(tmp_path / "a"), instance_id(tmp_path / "b")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STUBBORN], env={**os.environ, **variables}, stdout=subprocess.PIPE
        )
        for variables in (
            {INSTANCE_VARIABLE: ours},
            {INSTANCE_VARIABLE: ours},
            {INSTANCE_VARIABLE: theirs},
            {},
        )
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        assert {each.pid for each in find_instance(ours)} == {process.pid for process in processes[:2]}
        assert stop_instance(ours, grace_s=0.1) == 2
        wait_until(lambda: [process.poll() for process in processes] == [-9, -9, None, None])
        assert stop_instance(ours, grace_s=0.1) == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()

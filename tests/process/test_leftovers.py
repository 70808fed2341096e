from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from support.waiting import wait_until

from llmstack.process.leftovers import INSTANCE, instance_of, of_instance, stop_instance

if TYPE_CHECKING:
    from pathlib import Path

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
)


def test_each_project_has_its_own_id(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert instance_of(tmp_path / "a") == instance_of(tmp_path / "link")
    assert instance_of(tmp_path / "a") != instance_of(tmp_path / "b")


def test_what_has_the_id_is_stopped_and_nothing_else(tmp_path: Path) -> None:
    ours, theirs = instance_of(tmp_path / "a"), instance_of(tmp_path / "b")
    started = [
        subprocess.Popen([sys.executable, "-c", STUBBORN], env={**os.environ, **more}, stdout=subprocess.PIPE)
        for more in ({INSTANCE: ours}, {INSTANCE: ours}, {INSTANCE: theirs}, {})
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        assert {each.pid for each in of_instance(ours)} == {process.pid for process in started[:2]}
        assert stop_instance(ours, grace_s=0.1) == 2
        wait_until(lambda: [process.poll() for process in started] == [-9, -9, None, None])
        assert stop_instance(ours, grace_s=0.1) == 0
    finally:
        for process in started:
            process.kill()
            process.communicate()

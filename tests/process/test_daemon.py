from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from llmstack.errors import LlmstackError
from llmstack.process.daemon import spawn_daemon

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
import os, sys
print(os.getcwd(), os.getsid(0) == os.getpid(), repr(sys.stdin.read()), os.environ["X"], flush=True)
print("err", file=sys.stderr)
"""


def test_a_daemon_has_its_own_session_and_appends_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    for _ in range(2):
        process, identity = spawn_daemon(
            [sys.executable, "-c", CODE], env={**os.environ, "X": "1"}, cwd=tmp_path, log=log
        )
        assert identity.pid == process.pid
        assert process.wait(10) == 0
    assert log.read_text() == f"{tmp_path} True '' 1\nerr\n" * 2


def test_a_daemon_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LlmstackError, match=r"cannot start /no/such in .*: No such file"):
        spawn_daemon(["/no/such"], env={}, cwd=tmp_path, log=tmp_path / "x.log")
    with pytest.raises(LlmstackError, match=r"cannot start .* in .*gone: No such file"):
        spawn_daemon([sys.executable], env={}, cwd=tmp_path / "gone", log=tmp_path / "x.log")
    (tmp_path / "file").touch()
    with pytest.raises(LlmstackError, match=r"cannot write .*x\.log"):
        spawn_daemon([sys.executable], env={}, cwd=tmp_path, log=tmp_path / "file" / "x.log")


@pytest.mark.skipif(os.name == "nt", reason="no such permissions there")
def test_the_log_of_a_daemon_cannot_be_read_by_others(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.touch(0o644)
    process, _ = spawn_daemon([sys.executable, "-c", "pass"], env=os.environ, cwd=tmp_path, log=log)
    process.wait(10)
    assert log.stat().st_mode & 0o777 == 0o600

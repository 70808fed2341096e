from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest
from support.native import native_server
from support.net import free_port
from support.waiting import wait_until

from llmstack.llama_cpp.binary import EngineBinary
from llmstack.llama_cpp.command import server_env
from llmstack.llama_cpp.launcher import GRACE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "the-key-of-this-start"


@contextlib.contextmanager
def launch(tmp_path: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process, int]]:
    port = free_port()
    argv = EngineBinary("native", native_server(tmp_path)).argv(("--port", str(port), *flags))
    with subprocess.Popen(
        argv,
        env={**server_env(os.environ), "LLAMA_API_KEY": KEY},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as launcher:
        try:
            assert launcher.stdout is not None
            yield launcher, psutil.Process(int(launcher.stdout.readline().split()[1])), port
        finally:
            launcher.kill()


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def status(port: int, path: str, key: str = "") -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - http
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_it_ends_when_its_stdin_closes(tmp_path: Path) -> None:
    with launch(tmp_path) as (launcher, server, _):
        assert launcher.stdin is not None
        launcher.stdin.close()
        assert launcher.wait(2) == 128 + 15
        assert has_ended(server)


def test_it_ends_on_sigterm(tmp_path: Path) -> None:
    with launch(tmp_path) as (launcher, server, _):
        launcher.terminate()
        assert launcher.wait(2) == 128 + 15
        assert has_ended(server)


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    with launch(tmp_path, "--stubborn") as (launcher, server, _):
        start = time.monotonic()
        launcher.terminate()
        launcher.terminate()
        assert launcher.wait(GRACE_S + 3) == 128 + 9
        assert time.monotonic() - start > GRACE_S - 0.5
        assert has_ended(server)


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems the router kills the group")
def test_the_server_does_not_outlive_a_killed_launcher(tmp_path: Path) -> None:
    with launch(tmp_path, "--stubborn") as (launcher, server, _):
        launcher.kill()
        wait_until(lambda: has_ended(server), timeout=2)


def test_it_exits_with_the_exit_code_of_the_server(tmp_path: Path) -> None:
    with launch(tmp_path) as (launcher, _, port):
        assert status(port, "/exit", KEY) == 200
        assert launcher.wait(2) == 7


def test_the_key_is_required_and_appears_in_no_command_line(tmp_path: Path) -> None:
    with launch(tmp_path) as (launcher, server, port):
        assert [status(port, "/props", key) for key in ("", "wrong", KEY)] == [401, 401, 200]
        for process in (psutil.Process(launcher.pid), server):
            assert KEY not in " ".join(process.cmdline())


def test_a_program_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    argv = EngineBinary("native", tmp_path / "gone").argv(())
    done = subprocess.run(argv, stdin=subprocess.PIPE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: cannot start {tmp_path / 'gone'}: No such file or directory\n",
    )


def test_modules_in_the_current_directory_are_not_imported(tmp_path: Path) -> None:
    for name in ("contextlib", "subprocess", "llmstack", "xllamacpp"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('run by the project')")
    argv = EngineBinary("native", tmp_path / "gone").argv(())
    done = subprocess.run(
        argv, cwd=tmp_path, stdin=subprocess.PIPE, capture_output=True, text=True, check=False
    )
    assert "cannot start" in done.stderr

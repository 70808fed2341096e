from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import wait_until

from llmstack.errors import LlmstackError
from llmstack.files import exclusive_lock, open_private, remove_left_behind, write_atomic


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomic(path, "grüße\r\n")
    assert path.read_bytes() == "grüße\r\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    write_atomic(path, b"\0\xff", mode=0o600)
    assert path.read_bytes() == b"\0\xff"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["file/below", "dir", "x" * 300])
def test_a_failed_write_is_an_error_and_leaves_no_temporary_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "dir" / "full").mkdir(parents=True)
    with pytest.raises(LlmstackError, match=f"cannot write {tmp_path / name}: "):
        write_atomic(tmp_path / name, "x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dir", "file"]
    assert (tmp_path / "file").read_text() == "kept"


FULL_DISK = """
import pathlib, resource, sys
from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    write_atomic(pathlib.Path(sys.argv[1]), "x" * 10_000)
except LlmstackError as error:
    print(error.message)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "models.ini"
    path.write_text("before")
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"cannot write {path}: File too large\n"
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


HOLDER = """
import pathlib, sys
from llmstack.files import exclusive_lock
with exclusive_lock(pathlib.Path(sys.argv[1]), "start"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_command_at_a_time_holds_the_lock_and_is_named_in_the_error(tmp_path: Path) -> None:
    lock = tmp_path / ".llmstack" / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LlmstackError) as caught, exclusive_lock(lock, "stop", wait_s=0.1):
            pass
        assert caught.value.message == f"another llmstack command is at work here: `start` (pid {holder.pid})"
        assert holder.stdin is not None
        holder.stdin.close()
        with exclusive_lock(lock, "stop", wait_s=10):
            assert f'"pid": {os.getpid()}' in (lock.parent / "lock.holder").read_text()
    assert not (lock.parent / "lock.holder").exists()


def test_a_killed_process_releases_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE) as holder:
        wait_until((tmp_path / "lock.holder").exists)
        holder.kill()
    with exclusive_lock(lock, "stop", wait_s=1):
        pass


def test_an_exception_in_the_block_releases_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), exclusive_lock(lock, "start", wait_s=0.1):
            raise ValueError("inside")


def test_a_lock_file_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(LlmstackError, match="cannot lock"),
        exclusive_lock(Path(tmp_path / "file" / "lock"), "start"),
    ):
        pass


def test_the_lock_is_held_even_if_its_holder_cannot_be_recorded(tmp_path: Path) -> None:
    """As on a full disk, when `stop` must still work."""
    lock = tmp_path / "lock"
    (tmp_path / "lock.holder").mkdir()
    with (
        exclusive_lock(lock, "stop"),
        pytest.raises(LlmstackError, match="its name could not be read"),
        exclusive_lock(lock, "start", wait_s=0),
    ):
        pass


def test_only_old_temporary_files_are_removed(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in (".models.ini.abcdefgh.tmp", "models.ini", ".gitignore", "x.tmp")]
    old = tmp_path / ".models.ini.ijklmnop.tmp"
    for path in (*kept, old):
        path.touch()
    for path in (old, *kept[1:]):
        os.utime(path, (1, 1))
    (tmp_path / ".directory.tmp").mkdir()
    remove_left_behind(tmp_path)
    assert all(path.exists() for path in kept)
    assert not old.exists()


def test_a_killed_writer_leaves_a_file_that_is_removed_later(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; from llmstack import files\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_atomic(pathlib.Path(sys.argv[1]) / 'models.ini', 'text')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    remove_left_behind(tmp_path)
    assert left.exists()
    os.utime(left, (1, 1))
    remove_left_behind(tmp_path)
    assert not left.exists()


@pytest.mark.skipif(os.name == "nt", reason="no such permissions there")
def test_a_private_file_is_closed_to_others_however_it_was_before(tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        (tmp_path / "old").touch(0o666)
        for name in ("old", "new"):
            with open(tmp_path / name, "ab", opener=open_private):
                assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        with open(os.devnull, "ab", opener=open_private):
            assert os.stat(os.devnull).st_mode & 0o777 == 0o666  # noqa: PTH116 - as above
    finally:
        os.umask(old_mask)

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.stranger import needs_root, try_to_open

from llmstack.process.socket_directory import SocketDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no Unix sockets for Python")
_HOLDER = """
import pathlib, socket, sys
from llmstack.process.socket_directory import SocketDirectory
directory = SocketDirectory([pathlib.Path(sys.argv[1])])
path = directory.new_path()
socket.socket(socket.AF_UNIX).bind(str(path))
print(path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    """A short path that everybody can enter, as the system's directory for temporary files is."""
    path = Path(f"/tmp/t{os.getpid()}")  # noqa: S108 - a socket's path must be short
    path.mkdir()
    path.chmod(0o1777)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def test_it_is_created_for_this_user_alone_and_removed(parent: Path) -> None:
    directory = SocketDirectory([parent])
    assert list(parent.iterdir()) == []
    one, two = directory.new_path(), directory.new_path()
    assert one is not None
    assert two is not None
    assert (one.parent, one.suffix, one != two) == (two.parent, ".sock", True)
    assert one.parent.stat().st_mode & 0o7777 == 0o700
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(one))
    directory.close()
    directory.close()
    assert list(parent.iterdir()) == []


@needs_root
def test_another_user_can_neither_list_it_nor_connect(parent: Path) -> None:
    directory = SocketDirectory([parent])
    path = directory.new_path()
    assert path is not None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        path.chmod(0o777)
        assert try_to_open(path) == "list: PermissionError\nconnect: PermissionError\n"
    directory.close()


def test_what_a_killed_router_has_left_is_removed_and_what_another_one_uses_is_not(parent: Path) -> None:
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    paths = [Path((holder.stdout or sys.stdin).readline().strip()) for holder in holders]
    try:
        holders[0].kill()
        holders[0].wait()
        assert all(path.is_socket() for path in paths)
        directory = SocketDirectory([parent])
        directory.new_path()
        assert [path.exists() for path in paths] == [False, True]
        directory.close()
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def test_other_directories_of_that_name_are_left_alone(parent: Path) -> None:
    other = parent / "llmstack-sockets-of-mine"
    other.mkdir()
    (other / "notes.txt").write_text("keep")
    (parent / "llmstack-sockets-link").symlink_to(other)
    directory = SocketDirectory([parent])
    directory.new_path()
    directory.close()
    assert (other / "notes.txt").read_text() == "keep"


def test_a_directory_that_was_removed_is_created_again(parent: Path) -> None:
    directory = SocketDirectory([parent])
    first = directory.new_path()
    assert first is not None
    shutil.rmtree(first.parent)
    second = directory.new_path()
    assert second is not None
    assert second.parent.is_dir()
    directory.close()


def test_a_parent_is_skipped_if_paths_get_too_long_or_others_could_replace_the_directory(
    parent: Path, tmp_path: Path
) -> None:
    long, shared, comma, safe = parent / ("x" * 80), parent / "shared", parent / "a,b", parent / "safe"
    for path in (long, shared, comma, safe):
        path.mkdir()
    shared.chmod(0o777)
    parents = [long, shared, comma, parent / "missing"]
    assert SocketDirectory(parents).new_path() is None
    directory = SocketDirectory([*parents, safe])
    found = directory.new_path()
    assert found is not None
    assert found.parents[1] == safe
    directory.close()

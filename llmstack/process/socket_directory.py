"""A directory for the Unix sockets of a router's servers, which only its user can enter.

It is not below `XDG_RUNTIME_DIR`, which is emptied when the user logs out, while a router keeps running. The
name is random, so that nobody can create it first. The directory is locked as long as the router runs: a
router that starts later removes what a killed one has left, and systemd-tmpfiles leaves locked directories
alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "llmstack-sockets-"
MAX_PATH_BYTES = 103  # sockaddr_un holds 104 bytes on macOS and 108 on Linux, with the closing zero
_LONGEST_NAME = "000000.sock"
_ATTEMPTS = 3


class SocketDirectory:
    """Gives each server a path for its socket. Created with its first path, removed by `close`.

    Args:
        parents: where it may be created, best first; by default the directories for temporary files.
    """

    def __init__(self, parents: Iterable[Path] | None = None) -> None:
        self._parents = [Path(tempfile.gettempdir()), Path("/tmp")] if parents is None else [*parents]  # noqa: S108 - the directory in it is random
        self._path: Path | None = None
        self._lock: int | None = None
        self._numbers = count(1)

    def new_path(self) -> Path | None:
        """Return a path that no server had before; None if this machine has no directory for sockets."""
        if os.name == "nt":
            return None
        if self._path is None or not self._path.is_dir():
            self.close()
            self._create()
        return self._path / f"{next(self._numbers)}.sock" if self._path is not None else None

    def _create(self) -> None:
        for parent in filter(_is_suitable, self._parents):
            _remove_abandoned(parent)
            for _ in range(_ATTEMPTS):
                try:
                    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
                except OSError:
                    break
                lock = _lock(path)
                if lock is not None:
                    self._path, self._lock = path, lock
                    return

    def close(self) -> None:
        """Remove it."""
        path, lock, self._path, self._lock = self._path, self._lock, None, None
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _is_suitable(parent: Path) -> bool:
    """Return whether paths below it are short enough, and nobody else can replace what is in it."""
    longest = parent / f"{PREFIX}12345678" / _LONGEST_NAME
    # llama.cpp takes a comma for the end of an address.
    if len(os.fsencode(longest)) > MAX_PATH_BYTES or "," in str(parent):
        return False
    try:
        status = parent.stat()
    except OSError:
        return False
    is_shared = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return status.st_uid in {0, os.getuid()} and (not is_shared or bool(status.st_mode & stat.S_ISVTX))


def _lock(path: Path) -> int | None:
    """Lock a directory; return the descriptor that holds the lock, or None if another process has it.

    Another router may remove a new directory that is not locked yet; that counts as having it.
    """
    import fcntl  # noqa: PLC0415 - does not exist on Windows

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _remove_abandoned(parent: Path) -> None:
    """Remove this user's directories that no router holds any more."""
    with contextlib.suppress(OSError):
        for path in parent.glob(f"{PREFIX}*"):
            if _is_ours(path) and (descriptor := _lock(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(descriptor)


def _is_ours(path: Path) -> bool:
    """Return whether this user has made a path, and it holds nothing but sockets."""
    try:
        status = path.lstat()
        return (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.getuid()
            and all(entry.suffix == ".sock" and entry.is_socket() for entry in path.iterdir())
        )
    except OSError:
        return False

"""Write files atomically, and lock files so that one command at a time changes a project."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_WAIT_S = 10.0
PRIVATE_MODE = 0o600
TEMPORARY = ".tmp"
LEFT_BEHIND_S = 3600.0  # a file is written in seconds; one that is older belongs to a process that was killed


class LockedError(LlmstackError):
    """Another process holds the lock."""


def write_atomic(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write a whole file, or leave the old one untouched: write a temporary file next to it, then rename it.

    Args:
        path: the file; its directory is created if it is missing.
        content: bytes, or text to write as UTF-8 with unchanged line ends.
        mode: permissions of the new file; 0o600 if it contains a secret.

    Raises:
        LlmstackError: the file cannot be written (disk full, no permission, …).
    """
    import tempfile  # noqa: PLC0415 - commands that only read, such as `status`, must start fast

    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path = path.resolve() if path.is_symlink() else path  # replace a link's target, not the link
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise LlmstackError(
            f"cannot write {path}: {error.strerror or error}",
            hint="free some disk space or check the permissions of its directory",
        ) from error
    finally:
        if temporary is not None:  # failed or interrupted
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)


def remove_left_behind(directory: Path, pattern: str = f".*{TEMPORARY}") -> None:
    """Remove what writers that were killed left in a directory: by default, files of `write_atomic`."""
    for path in directory.glob(pattern):
        with contextlib.suppress(OSError):  # another process removes it too
            if path.is_file() and time.time() - path.lstat().st_mtime > LEFT_BEHIND_S:
                path.unlink()


def open_private(path: str, flags: int) -> int:
    """Open a file for its owner alone, as an `opener` of `open`; no one else can read an older one any more.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, flags, PRIVATE_MODE)
    mode = os.fstat(descriptor).st_mode
    if os.name != "nt" and stat.S_ISREG(mode) and mode & ~PRIVATE_MODE & 0o777:
        with contextlib.suppress(OSError):  # it belongs to somebody else
            os.fchmod(descriptor, PRIVATE_MODE)
    return descriptor


def remove(path: Path) -> None:
    """Remove a file if it exists.

    Raises:
        LlmstackError: the file cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LlmstackError(f"cannot remove {path}: {error.strerror or error}", hint="remove it") from error


@contextlib.contextmanager
def exclusive_lock(path: Path, command: str, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold a lock file while the block runs.

    Args:
        path: the lock file; the file `<path>.holder` says who holds it, for the error message of others.
        command: the command that holds it, e.g. `start`.
        wait_s: how long to wait for another holder, in seconds.

    Raises:
        LockedError: another process still holds it after that time.
        LlmstackError: the lock file cannot be created.
    """
    import filelock  # noqa: PLC0415 - as above

    holder_file = path.with_name(f"{path.name}.holder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        lock.acquire(timeout=wait_s)
    except filelock.Timeout as error:
        raise LockedError(
            f"another llmstack command is at work here: {_describe_holder(holder_file)}",
            hint="wait for it to end and try again",
        ) from error
    except OSError as error:
        raise LlmstackError(
            f"cannot lock {path}: {error.strerror or error}",
            hint="check its permissions and those of its directory",
        ) from error
    try:
        with contextlib.suppress(LlmstackError):  # `stop` must work on a full disk
            write_atomic(holder_file, json.dumps({"pid": os.getpid(), "command": command}))
        yield
    finally:
        with contextlib.suppress(OSError):
            holder_file.unlink(missing_ok=True)
        lock.release()


def _describe_holder(holder_file: Path) -> str:
    try:
        holder = json.loads(holder_file.read_text())
        return f"`{holder['command']}` (pid {holder['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "its name could not be read"

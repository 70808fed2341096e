"""Writing files so that nobody ever sees half of one, and one writer at a time."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_WAIT_S = 10.0


class LockedError(LlmstackError):
    """Somebody else holds the lock."""


def write_atomic(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write a whole file, or leave what was there: temporary file beside it, then rename.

    Args:
        path: the file; its directory is created where it is missing.
        content: text is written as UTF-8 with the newlines it has.
        mode: permissions of the new file; 0o600 for what holds a secret.

    Raises:
        LlmstackError: it cannot be written (disk full, no permission, …).
    """
    import tempfile  # noqa: PLC0415 - commands that only read, such as `status`, are to start fast

    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path = path.resolve() if path.is_symlink() else path  # what a link leads to is replaced, not the link
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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


def remove(path: Path) -> None:
    """Remove a file where it is there.

    Raises:
        LlmstackError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LlmstackError(f"cannot remove {path}: {error.strerror or error}", hint="remove it") from error


@contextlib.contextmanager
def exclusive_lock(path: Path, command: str, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the lock file at `path` while the block runs.

    Args:
        path: the lock file; who holds it is noted beside it, for the error that others get.
        command: what the holder is doing, e.g. `start`.
        wait_s: how long to wait for another holder, in seconds.

    Raises:
        LockedError: somebody else holds it for longer than that.
        LlmstackError: the lock file cannot be made.
    """
    import filelock  # noqa: PLC0415 - as above

    holder = path.with_name(f"{path.name}.holder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        lock.acquire(timeout=wait_s)
    except filelock.Timeout as error:
        raise LockedError(
            f"another llmstack command is at work here: {_describe(holder)}",
            hint="wait for it to end and try again",
        ) from error
    except OSError as error:
        raise LlmstackError(
            f"cannot lock {path}: {error.strerror or error}",
            hint="check its permissions and those of its directory",
        ) from error
    try:
        with contextlib.suppress(LlmstackError):  # on a full disk, `stop` is to work all the same
            write_atomic(holder, json.dumps({"pid": os.getpid(), "command": command}))
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    try:
        note = json.loads(holder.read_text())
        return f"`{note['command']}` (pid {note['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "its name could not be read"

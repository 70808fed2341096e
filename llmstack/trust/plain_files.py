"""Read small plain files, and print names from outside. Standard library only, for the shell hook."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024  # per file; a prompt must not hang on a huge one


def read_plain_file(path: Path) -> bytes | None:
    """Return the content of a regular file; None if it is missing.

    Raises:
        LlmstackError: it cannot be read, is larger than `MAX_BYTES`, or is not a regular file.
    """
    try:
        # Without waiting: opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LlmstackError(f"{escape_unprintable(str(path))} is not a plain file", hint="remove it")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise LlmstackError(
            f"{escape_unprintable(str(path))} is larger than {MAX_BYTES >> 20} MiB", hint="remove it"
        )
    return data


def escape_unprintable(text: str) -> str:
    r"""Return the text with each unprintable character (escape sequences, bidi marks) written as `\x1b`."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def resolve_path(path: Path) -> str:
    """Return the absolute path without links; the path need not exist."""
    return os.path.realpath(path)


def _unreadable(path: Path, error: OSError) -> LlmstackError:
    return LlmstackError(
        f"cannot read {escape_unprintable(str(path))}: {error.strerror or error}",
        hint="check the permissions of the file",
    )

"""Reading the logs of daemons."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmstack.paths import Project

POLL_S = 0.2


def available(project: Project) -> list[Path]:
    """Return the log files there are."""
    return sorted(project.logs.glob("*.log")) if project.logs.is_dir() else []


def tail(project: Project, name: str, lines: int) -> list[str]:
    """Return the last lines of a log.

    Raises:
        LlmstackError: there is no such log.
    """
    with _find(project, name).open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=lines)]


def follow(project: Project, name: str) -> Iterator[str]:
    """Yield lines as they are written, for ever; a log that is rotated is followed into its successor."""
    path = _find(project, name)
    file = path.open(encoding="utf-8", errors="replace")
    try:
        file.seek(0, 2)
        partial = ""
        while True:
            partial += file.readline()
            if partial.endswith("\n"):
                yield partial.rstrip("\n")
                partial = ""
                continue
            time.sleep(POLL_S)
            if path.is_file() and path.stat().st_ino != _inode(file.fileno()):
                file.close()
                file = path.open(encoding="utf-8", errors="replace")
    finally:
        file.close()


def _inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino


def _find(project: Project, name: str) -> Path:
    for path in available(project):
        if path.stem == name:
            return path
    known = ", ".join(path.stem for path in available(project)) or "none yet"
    raise LlmstackError(
        f"no log is called `{name}`; there are: {known}", hint="logs are written once something runs"
    )

"""Read the log files of a project's daemons."""

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


def list_logs(project: Project) -> list[Path]:
    """Return the log files, sorted by name."""
    return sorted(project.logs.glob("*.log")) if project.logs.is_dir() else []


def read_last_lines(project: Project, name: str, count: int) -> list[str]:
    """Return the last lines of a log.

    Raises:
        LlmstackError: there is no such log.
    """
    with _find_log(project, name).open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=count)]


def follow_log(project: Project, name: str) -> Iterator[str]:
    """Yield lines as they are written, forever; continue with the new file after a rotation.

    Raises:
        LlmstackError: there is no such log.
    """
    path = _find_log(project, name)
    file = path.open(encoding="utf-8", errors="replace")
    try:
        file.seek(0, os.SEEK_END)
        partial = ""
        while True:
            partial += file.readline()
            if partial.endswith("\n"):
                yield partial.rstrip("\n")
                partial = ""
                continue
            time.sleep(POLL_S)
            was_rotated = path.is_file() and path.stat().st_ino != os.fstat(file.fileno()).st_ino
            if was_rotated:
                file.close()
                file = path.open(encoding="utf-8", errors="replace")
    finally:
        file.close()


def _find_log(project: Project, name: str) -> Path:
    for path in list_logs(project):
        if path.stem == name:
            return path
    names = ", ".join(path.stem for path in list_logs(project)) or "none yet"
    raise LlmstackError(
        f"no log is called `{name}`; there are: {names}", hint="logs are written once something runs"
    )

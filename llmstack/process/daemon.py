"""Start a process that outlives the command that started it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.files import open_private
from llmstack.process.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def spawn_daemon(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
) -> tuple[subprocess.Popen[bytes], Identity]:
    """Start a process in a session of its own, with its output appended to a log.

    Raises:
        LlmstackError: the process cannot be started, or ended immediately.
    """
    detached = (
        {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}  # type: ignore[attr-defined,unused-ignore]
        if os.name == "nt"
        else {"start_new_session": True}
    )
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = open(log, "ab", opener=open_private)  # noqa: SIM115 - `Path.open` has no opener
    except OSError as error:
        raise LlmstackError(f"cannot write {log}: {error.strerror or error}") from error
    try:
        with output:
            process = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **detached,
            )
    except OSError as error:
        raise LlmstackError(f"cannot start {argv[0]} in {cwd}: {error.strerror or error}") from error
    identity = Identity.from_pid(process.pid)
    if identity is None:
        raise LlmstackError(f"{argv[0]} ended at once", hint=f"see {log}")
    return process, identity

"""The shell that `start` ends in where no hook wires the terminal up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from llmstack.files import write_atomic
from llmstack.shell.activation_status import COLORS, label
from llmstack.shell.base import Look
from llmstack.shell.environment import activated, variables
from llmstack.shell.shells import shell_here
from llmstack.stack.project import active_channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from llmstack.paths import Project


def wired(env: Mapping[str, str]) -> bool:
    """Return whether this terminal is active already, or has a hook that will see to it."""
    if env.get("LLMSTACK_ACTIVE"):
        return True
    hook = env.get("LLMSTACK_HOOK", "")
    # Inherited also by shells without the hook, so it names the one that has it.
    return hook.isdigit() and int(hook) in [pid for pid, _ in _parents()]


def subshell(project: Project, env: Mapping[str, str], cwd: Path) -> Callable[[], None]:
    """Make a shell ready that is wired up for this project; call the result to run it until its user leaves.

    Args:
        project: an installed, trusted project.
        env: of the shell, before what wires it up is added.
        cwd: where it starts.

    Raises:
        LlmstackError: the user's shell is none that can be wired up.
    """
    shell, program = shell_here(env, [name for _, name in _parents()])
    channel = active_channel(project)
    values = variables(project.work_dir, channel)
    plain = bool(env.get("NO_COLOR"))
    look = Look(values, label(project.work_dir, channel), "" if plain else COLORS[channel.kind])
    ready = shell.subshell(project.state, env, look)
    for path, text in ready.files.items():
        write_atomic(path, text)
    child_env = activated(env, values) | dict(ready.env)
    command = [program, *ready.arguments]

    def run() -> None:
        with _terminal_kept():
            subprocess.run(command, env=child_env, cwd=cwd, check=False)

    return run


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """Leave Ctrl-C to the shell while the block runs, and take the terminal back behind it."""
    # A function of ours, not SIG_IGN: the shell would inherit that.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if sys.platform != "win32":
            stopped = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            with contextlib.suppress(OSError):
                os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
            signal.signal(signal.SIGTTOU, stopped)


def _parents() -> list[tuple[int, str]]:
    """Return what started this process, the nearest first: pid and program."""
    import psutil  # noqa: PLC0415 - only where a person waits

    found = []
    with contextlib.suppress(psutil.Error):
        for parent in psutil.Process().parents():
            found.append((parent.pid, parent.name()))  # noqa: PERF401 - keeps those before one that is gone
    return found

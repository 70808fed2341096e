"""The shell that `start` opens on a terminal whose shell has no hook."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from llmstack.files import write_atomic
from llmstack.shell.activation_status import COLORS, prompt_label
from llmstack.shell.base import Activation
from llmstack.shell.environment import activate_env, exported_variables
from llmstack.shell.shells import detect_shell
from llmstack.stack.project import active_channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from llmstack.config.trusted import TrustedProject


def is_activated(env: Mapping[str, str]) -> bool:
    """Return whether this terminal is activated, or has a hook that will activate it."""
    if env.get("LLMSTACK_ACTIVE"):
        return True
    hook_pid = env.get("LLMSTACK_HOOK", "")
    # The variable is inherited by shells without the hook, so it names the shell that has it.
    return hook_pid.isdigit() and int(hook_pid) in [pid for pid, _ in _list_parents()]


def prepare_subshell(trusted: TrustedProject, env: Mapping[str, str], cwd: Path) -> Callable[[], None]:
    """Prepare a shell that is activated for this project; return a function that runs it until it exits.

    Args:
        trusted: an installed project.
        env: the shell's environment, before it is activated.
        cwd: the shell's working directory.

    Raises:
        LlmstackError: the user's shell is not supported.
    """
    shell, program = detect_shell(env, [name for _, name in _list_parents()])
    project, channel = trusted.project, active_channel(trusted)
    exports = exported_variables(project.work_dir, channel)
    color = "" if env.get("NO_COLOR") else COLORS[channel.kind]
    activation = Activation(exports, prompt_label(project.work_dir, channel), color)
    trusted.private.create()
    subshell = shell.subshell(trusted.private.shell_files, env, activation)
    for path, text in subshell.files.items():
        write_atomic(path, text)
    child_env = activate_env(env, exports) | dict(subshell.env)
    command = [program, *subshell.args]

    def run() -> None:
        with _terminal_lent_to_child():
            subprocess.run(command, env=child_env, cwd=cwd, check=False)

    return run


@contextlib.contextmanager
def _terminal_lent_to_child() -> Iterator[None]:
    """Leave Ctrl-C to the child process during the block, and take the terminal back after it."""
    # A handler, not SIG_IGN, because the child would inherit that.
    interrupt_handler = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, interrupt_handler)
        if sys.platform != "win32":
            output_handler = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            with contextlib.suppress(OSError):
                os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
            signal.signal(signal.SIGTTOU, output_handler)


def _list_parents() -> list[tuple[int, str]]:
    """Return pid and program of each ancestor of this process, the nearest first."""
    import psutil  # noqa: PLC0415 - only needed on a terminal

    parents = []
    with contextlib.suppress(psutil.Error):
        for parent in psutil.Process().parents():
            parents.append((parent.pid, parent.name()))  # noqa: PERF401 - keeps those before a failure
    return parents

"""The supported shells, and detection of the one in use."""

from __future__ import annotations

import shutil
from pathlib import PurePath
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError, UsageError
from llmstack.shell.bash import Bash
from llmstack.shell.fish import Fish
from llmstack.shell.powershell import PowerShell
from llmstack.shell.zsh import Zsh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmstack.shell.base import Shell

SHELLS: dict[str, Shell] = {shell.name: shell for shell in (Zsh(), Bash(), Fish(), PowerShell())}
_ALIASES = {"pwsh": "powershell"}
CMD_UNSUPPORTED = "cmd.exe has no activation: it cannot run a hook at its prompt"
CMD_HINT = "use PowerShell: `llmstack activate powershell`"


def find_shell(name: str) -> Shell:
    """Return a shell by name or path.

    Raises:
        UsageError: the shell is not supported.
    """
    base_name = program_name(name)
    if base_name == "cmd":
        raise UsageError(CMD_UNSUPPORTED, hint=CMD_HINT)
    shell = SHELLS.get(_ALIASES.get(base_name, base_name))
    if shell is None:
        raise UsageError(f"expected one of {', '.join(SHELLS)}, got `{name}`")
    return shell


def program_name(program: str) -> str:
    """Return `zsh` for `/usr/bin/zsh`, `-zsh` and `zsh.exe`."""
    return PurePath(program.replace("\\", "/")).name.lower().removesuffix(".exe").removeprefix("-")


def detect_shell(env: Mapping[str, str], parents: Sequence[str]) -> tuple[Shell, str]:
    """Return the shell to open, and the path of its program.

    It is `LLMSTACK_SHELL`, else `SHELL`, else the nearest parent process that is a shell.

    Args:
        env: the environment.
        parents: names of the parent processes, nearest first.

    Raises:
        LlmstackError: the shell is not supported or not installed.
    """
    configured = env.get("LLMSTACK_SHELL") or env.get("SHELL")
    shell_names = {*SHELLS, *_ALIASES, "cmd"}
    program = configured or next((name for name in parents if program_name(name) in shell_names), "")
    try:
        shell = find_shell(program)
    except UsageError as error:
        hint = error.hint or "set LLMSTACK_SHELL to zsh, bash, fish or powershell"
        raise LlmstackError(f"no shell was opened: {error.message}", hint=hint) from error
    executable = shutil.which(program, path=env.get("PATH"))
    if executable is None:
        raise LlmstackError(f"no shell was opened: {program} is not installed", hint="set LLMSTACK_SHELL")
    return shell, executable

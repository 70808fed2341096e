"""The shells llmstack knows, and which one is in use."""

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
_ALSO = {"pwsh": "powershell"}
NO_CMD = "cmd.exe has no activation: it has nothing that runs at a prompt"
IN_POWERSHELL = "use PowerShell: `llmstack activate powershell`"


def shell_named(name: str) -> Shell:
    """Return a shell by its name.

    Raises:
        UsageError: it is none that can be wired up.
    """
    bare = bare_name(name)
    if bare == "cmd":
        raise UsageError(NO_CMD, hint=IN_POWERSHELL)
    shell = SHELLS.get(_ALSO.get(bare, bare))
    if shell is None:
        raise UsageError(f"expected one of {', '.join(SHELLS)}, got `{name}`")
    return shell


def bare_name(program: str) -> str:
    """Return `zsh` for `/usr/bin/zsh`, `-zsh` and `zsh.exe`."""
    return PurePath(program.replace("\\", "/")).name.lower().removesuffix(".exe").removeprefix("-")


def shell_here(env: Mapping[str, str], parents: Sequence[str]) -> tuple[Shell, str]:
    """Return the shell to open, and its program.

    `LLMSTACK_SHELL`, else `SHELL`, else the nearest of the programs that started this one.

    Args:
        env: the environment.
        parents: programs that started this one, the nearest first.

    Raises:
        LlmstackError: it is none that can be wired up, or is not installed.
    """
    named = env.get("LLMSTACK_SHELL") or env.get("SHELL")
    known = {*SHELLS, *_ALSO, "cmd"}
    program = named or next((each for each in parents if bare_name(each) in known), "")
    try:
        shell = shell_named(program)
    except UsageError as error:
        hint = error.hint or "set LLMSTACK_SHELL to zsh, bash, fish or powershell"
        raise LlmstackError(f"no shell was opened: {error.message}", hint=hint) from error
    found = shutil.which(program, path=env.get("PATH"))
    if found is None:
        raise LlmstackError(f"no shell was opened: {program} is not installed", hint="set LLMSTACK_SHELL")
    return shell, found

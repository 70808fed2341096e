"""`llmstack activate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def activate(
    ctx: typer.Context,
    shell: Annotated[
        str, typer.Argument(metavar="SHELL", help="zsh, bash, fish or powershell.", show_default=False)
    ],
    remove: Annotated[bool, typer.Option("--remove", help="Remove the hook instead.")] = False,
) -> None:
    """Install the shell hook, and print its line.

    With the hook, entering a trusted project activates the terminal for it, and leaving restores the previous
    environment. `llmstack_deactivate` turns the hook off in one terminal.

    Example: llmstack activate zsh
    """
    from llmstack.console import escape
    from llmstack.shell.base import HookValues
    from llmstack.shell.hook_file import remove_hook, write_hook
    from llmstack.shell.shells import find_shell

    cli: CliContext = ctx.obj
    console, target = cli.console, find_shell(shell)
    home = Path(cli.env.get("HOME") or Path.home())
    if remove:
        removed = remove_hook(target, home)
        console.info(
            f"the hook {'is removed' if removed else 'was not installed'}; in open terminals, run"
            " `llmstack_deactivate`"
        )
        console.info(f"next: delete this line from {target.rc_file}: {escape(target.rc_line)}")
        return
    hook = write_hook(target, home, HookValues(Path(sys.executable), cli.user.trusted_projects))
    console.print(hook.source_line)
    if console.is_interactive:
        console.info(
            f"\nwrote {escape(str(hook.path))}. To load it in every terminal, end {hook.rc_file} with:"
        )
        console.info(f"\n  {escape(hook.rc_line)}")

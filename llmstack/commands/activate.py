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
    remove: Annotated[bool, typer.Option("--remove", help="Remove the hook from this account.")] = False,
) -> None:
    """Write the shell hook, and print its line.

    With the hook, entering a trusted project wires the terminal up, and leaving it restores what was there.
    `llmstack_deactivate` switches it off in one terminal.

    Example: llmstack activate zsh
    """
    from llmstack.console import escape
    from llmstack.shell.activation import activate as write_hook
    from llmstack.shell.activation import remove as remove_hook
    from llmstack.shell.base import HookValues
    from llmstack.shell.shells import shell_named

    app: CliContext = ctx.obj
    console, chosen = app.console, shell_named(shell)
    home = Path(app.env.get("HOME") or Path.home())
    if remove:
        there = remove_hook(chosen, home)
        console.say(
            f"the hook is {'removed' if there else 'not there'}; running terminals: llmstack_deactivate"
        )
        console.say(f"remove its line from {chosen.rc_file} as well: {escape(chosen.line_for_rc)}")
        return
    done = write_hook(chosen, home, HookValues(Path(sys.executable), app.user.trusted_projects))
    console.data(done.line)
    if console.interactive:
        console.say(
            f"\nwrote {escape(str(done.path))}. To have it in every terminal, add to {done.rc_file}, last:"
        )
        console.say(f"\n  {escape(done.always)}")

"""`llmstack help`."""

from __future__ import annotations

from typing import Annotated

import typer

from llmstack.errors import UsageError


def help_(
    ctx: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(metavar="COMMAND", help="The command; default: list all.", show_default=False),
    ] = None,
) -> None:
    """Show help for a command, or list all commands.

    Example: llmstack help start
    """
    parent = ctx.parent
    if parent is None:
        return
    if command is None:
        typer.echo(parent.get_help())
        return
    commands = getattr(parent.command, "commands", {})
    if command not in commands:
        raise UsageError(f"no command is called `{command}`", hint="`llmstack help` lists them")
    match = commands[command]
    with match.make_context(command, ["--help"], parent=parent, resilient_parsing=False):
        pass

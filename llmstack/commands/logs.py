"""`llmstack logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def logs(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="`router` or a tier; default: list the logs.", show_default=False
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new lines as they are written.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, metavar="N", help="Number of lines from the end.")
    ] = 50,
) -> None:
    """Show the log of the router or of a tier.

    Example: llmstack logs router -f
    """
    from llmstack.console import escape
    from llmstack.stack.logs import follow_log, list_logs, read_last_lines

    cli: CliContext = ctx.obj
    project, console = cli.require_project(), cli.console
    if name is None:
        console.table(
            ("log", ">KB", "file"),
            [
                (escape(log.stem), f"{log.stat().st_size / 1024:.0f}", escape(str(log)))
                for log in list_logs(project)
            ],
        )
        return
    for line in read_last_lines(project, name, lines):
        console.print(line)
    if follow:
        for line in follow_log(project, name):
            console.print(line)

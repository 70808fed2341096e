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
            metavar="NAME", help="router, or a tier; the list of logs without it.", show_default=False
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, metavar="N", help="How many of the last lines.")
    ] = 50,
) -> None:
    """Show the log of the router or of a tier.

    Example: llmstack logs router -f
    """
    from llmstack.stack.logs import available, tail
    from llmstack.stack.logs import follow as follow_log

    app: CliContext = ctx.obj
    project, console = app.project(), app.console
    if name is None:
        console.table(
            ("log", ">KB", "file"),
            [(log.stem, f"{log.stat().st_size / 1024:.0f}", str(log)) for log in available(project)],
        )
        return
    for line in tail(project, name, lines):
        console.data(line)
    if follow:
        for line in follow_log(project, name):
            console.data(line)

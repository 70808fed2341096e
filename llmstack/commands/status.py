"""`llmstack status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import JsonOption

if TYPE_CHECKING:
    from llmstack.context import CliContext

WATCH_S = 1.0


def status(
    ctx: typer.Context,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second.")] = False,
) -> None:
    """Show what runs, and the last decisions.

    Exit code 0 only where everything that should be up is up.

    Example: llmstack status --json
    """
    from llmstack.report import status as report
    from llmstack.stack.lifecycle.status import status as stack_status

    app: CliContext = ctx.obj
    project, console = app.project(), app.console
    if watch:
        console.watch(lambda: report.status(console, stack_status(project, app.env)), every_s=WATCH_S)
        return
    now = stack_status(project, app.env)
    if as_json:
        console.json(now)
    else:
        report.status(console, now)
    raise typer.Exit(0 if now.healthy else 1)

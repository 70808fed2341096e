"""`llmstack status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import JsonOption

if TYPE_CHECKING:
    from llmstack.context import CliContext

WATCH_INTERVAL_S = 1.0


def status(
    ctx: typer.Context,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every second.")] = False,
) -> None:
    """Show the router, the tiers and the last decisions.

    Exits with 0 only if everything is up that should be.

    Example: llmstack status --json
    """
    from llmstack.report import status as report
    from llmstack.stack.lifecycle.status import read_status

    cli: CliContext = ctx.obj
    console = cli.console
    if watch:
        console.watch(
            lambda: report.show_status(console, read_status(cli.require_trusted(), cli.env)),
            every_s=WATCH_INTERVAL_S,
        )
        return
    current = read_status(cli.require_trusted(), cli.env)
    if as_json:
        console.json(current)
    else:
        report.show_status(console, current)
    raise typer.Exit(0 if current.healthy else 1)

"""`llmstack stop`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def stop(
    ctx: typer.Context,
    timeout: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Kill the router after this time; it may still be saving prompt caches.",
        ),
    ] = 45.0,
) -> None:
    """Stop the router and models of this project.

    Leaves alone whatever another project or person started.

    Example: llmstack stop
    """
    from llmstack.channel import read_marker
    from llmstack.report import lifecycle as report
    from llmstack.stack.lifecycle.stop import stop_stack

    cli: CliContext = ctx.obj
    project = cli.require_project()
    result = stop_stack(project, timeout_s=timeout)
    pinned = read_marker(project.default_channel)  # only to say why nothing runs here
    if pinned is not None and pinned.url is not None and not result.was_running:
        report.show_foreign_router(cli.console, pinned.url)
        return
    report.show_stop(cli.console, result)

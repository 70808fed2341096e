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
    from llmstack.report import lifecycle as report
    from llmstack.stack.lifecycle.stop import stop_stack
    from llmstack.stack.remote.remote_router import remote_url

    cli: CliContext = ctx.obj
    project = cli.require_project()
    result = stop_stack(project, timeout_s=timeout)
    if (url := remote_url(project)) is not None and not result.was_running:
        report.show_foreign_router(cli.console, url)
        return
    report.show_stop(cli.console, result)

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
            min=0, metavar="SECONDS", help="Seconds before the router is killed; it may be saving prompts."
        ),
    ] = 45.0,
) -> None:
    """Stop the router and models of this project.

    Nothing that another project or person started is touched.

    Example: llmstack stop
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.lifecycle.stop import down
    from llmstack.stack.remote.remote_router import remote_url

    app: CliContext = ctx.obj
    project = app.project()
    done = down(project, timeout_s=timeout)
    if (url := remote_url(project)) is not None and not done.was_running:
        report.not_ours(app.console, url)
        return
    report.stopped(app.console, done)

"""`llmstack stop`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import App


def stop(
    ctx: typer.Context,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds before the router is killed.")] = 20.0,
) -> None:
    """Stop the router and models of this project.

    Nothing that another project or person started is touched.

    Example: llmstack stop
    """
    from llmstack import report
    from llmstack.stack.stop import down

    app: App = ctx.obj
    report.stopped(app.console, down(app.project(), timeout_s=timeout))

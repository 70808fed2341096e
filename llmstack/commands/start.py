"""`llmstack start`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import DetachOption, HostOption, NextOption, PortOption
from llmstack.errors import UsageError

if TYPE_CHECKING:
    from llmstack.context import App


def start(
    ctx: typer.Context,
    detach: DetachOption = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and log here: for systemd and containers.")
    ] = False,
    next_: NextOption = False,
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Start the stack and wait until it is healthy.

    Waits for the router and for the model of role fast. What can run is started; what cannot is listed
    with the way to mend it.

    Example: llmstack start --detach
    """
    from llmstack import report
    from llmstack.stack.start import StartOptions, up

    app: App = ctx.obj
    if detach and foreground:
        raise UsageError("--detach and --foreground exclude each other")
    options = StartOptions(next=next_, host=host, port=port, wait=not detach)
    if foreground:
        from llmstack.stack.foreground import run_foreground

        raise typer.Exit(run_foreground(app.project(), app.env, app.user.trusted_projects, options))
    console = app.console
    with console.progress() as tell:
        started = up(app.project(), app.env, app.user.trusted_projects, options, tell=tell)
    report.started(console, started)

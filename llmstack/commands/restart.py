"""`llmstack restart`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from llmstack.commands.options import DetachOption, HostOption, NextOption, PortOption

if TYPE_CHECKING:
    from llmstack.context import CliContext


def restart(
    ctx: typer.Context,
    detach: DetachOption = False,
    next_: NextOption = False,
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Stop the stack and start it again.

    models.ini is read anew; while it is wrong, what runs goes on.

    Example: llmstack restart --next
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.lifecycle.restart import restart as restart_stack
    from llmstack.stack.lifecycle.start import StartOptions
    from llmstack.stack.remote.remote_router import remote_url
    from llmstack.stack.remote.thin_client import verify

    app: CliContext = ctx.obj
    options = StartOptions(next=next_, host=host, port=port, wait=not detach)
    console, project = app.console, app.project()
    if (url := remote_url(project)) is not None:
        report.verified(console, verify(project, app.user.trusted_projects, app.env, url))
        return
    with console.progress() as tell:
        started = restart_stack(project, app.env, app.user.trusted_projects, options, tell=tell)
    report.started(console, started)

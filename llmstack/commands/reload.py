"""`llmstack reload`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def reload(ctx: typer.Context) -> None:
    """Take up an edited models.ini.

    No request is dropped: tiers that changed finish what they are at, the others keep their process.
    A file with a mistake changes nothing.

    Example: llmstack reload
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.install.install import refetch
    from llmstack.stack.lifecycle.reload import reload as reload_stack
    from llmstack.stack.remote.remote_router import remote_url

    app: CliContext = ctx.obj
    project = app.project()
    if (url := remote_url(project)) is not None:
        refetch(project, app.user.trusted_projects, app.env, url)
        report.refetched(app.console, url)
        return
    with app.console.progress() as tell:
        tell("reloading")
        done = reload_stack(project, app.env, app.user.trusted_projects)
    report.reloaded(app.console, done)

"""`llmstack reload`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def reload(ctx: typer.Context) -> None:
    """Apply an edited models.ini.

    Drops no request: tiers that changed finish their requests first, the others keep running. If models.ini
    has a mistake, nothing changes.

    Example: llmstack reload
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.install.install import refresh_thin_client
    from llmstack.stack.lifecycle.reload import reload_stack
    from llmstack.stack.remote.remote_router import remote_url

    cli: CliContext = ctx.obj
    project = cli.require_project()
    if (url := remote_url(project)) is not None:
        refresh_thin_client(project, cli.user.trusted_projects, cli.env, url)
        report.show_refetch(cli.console, url)
        return
    with cli.console.progress() as notify:
        notify("reloading")
        result = reload_stack(project, cli.env, cli.user.trusted_projects)
    report.show_reload(cli.console, result)

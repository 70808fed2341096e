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

    cli: CliContext = ctx.obj
    trusted = cli.require_trusted()
    if (url := trusted.remote_url) is not None:
        refresh_thin_client(trusted, cli.env, url)
        report.show_refetch(cli.console, url)
        return
    with cli.console.progress() as notify:
        notify("reloading")
        result = reload_stack(trusted, cli.env)
    report.show_reload(cli.console, result)

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

    Reads models.ini again. If it has a mistake, the running stack is left alone.

    Example: llmstack restart --next
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.lifecycle.restart import restart_stack
    from llmstack.stack.lifecycle.start_plan import StartOptions
    from llmstack.stack.remote.thin_client import verify_router

    cli: CliContext = ctx.obj
    options = StartOptions(next=next_, host=host, port=port, wait=not detach)
    console, trusted = cli.console, cli.require_trusted()
    if (url := trusted.remote_url) is not None:
        report.show_verify(console, verify_router(url, cli.env))
        return
    with console.progress() as notify:
        started = restart_stack(trusted, cli.env, options, notify=notify)
    report.show_start(console, started)

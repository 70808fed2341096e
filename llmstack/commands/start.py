"""`llmstack start`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import DetachOption, HostOption, NextOption, PortOption
from llmstack.errors import LlmstackError, UsageError

if TYPE_CHECKING:
    from llmstack.context import CliContext
    from llmstack.paths import Project


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
    with the way to mend it. On a terminal without the shell hook it ends in a shell that is wired up.

    A project that uses another's router starts nothing: it verifies that the router answers.

    Example: llmstack start --detach
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.lifecycle.start import StartOptions, up
    from llmstack.stack.remote.remote_router import remote_url
    from llmstack.stack.remote.thin_client import verify

    app: CliContext = ctx.obj
    if detach and foreground:
        raise UsageError("--detach and --foreground exclude each other")
    options = StartOptions(next=next_, host=host, port=port, wait=not detach)
    console, project = app.console, app.project()
    if foreground:
        from llmstack.stack.lifecycle.foreground import run_foreground

        raise typer.Exit(run_foreground(project, app.env, app.user.trusted_projects, options))
    if (url := remote_url(project)) is not None:
        if next_ or host or port:
            raise UsageError(f"the router is another project's: {url}", hint="give these options there")
        report.verified(console, verify(project, app.user.trusted_projects, app.env, url))
    else:
        with console.progress() as tell:
            started = up(project, app.env, app.user.trusted_projects, options, tell=tell)
        report.started(console, started)
    if not detach and console.interactive and sys.stdin.isatty():
        _open_shell(app, project)


def _open_shell(app: CliContext, project: Project) -> None:
    """End in a shell that is wired up, unless this one is."""
    from llmstack.report import lifecycle as report
    from llmstack.stack.lifecycle.subshell import subshell, wired
    from llmstack.stack.project import running_router
    from llmstack.stack.remote.remote_router import remote_url

    if wired(app.env):
        return
    console = app.console
    try:
        run = subshell(project, app.env, app.cwd)
    except LlmstackError as error:
        console.warn(error.message, error.hint or "")
        return
    report.entered(console)
    run()
    report.left(console, serves=remote_url(project) is not None or running_router(project) is not None)

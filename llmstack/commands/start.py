"""`llmstack start`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import DetachOption, HostOption, NextOption, PortOption
from llmstack.errors import LlmstackError, UsageError

if TYPE_CHECKING:
    from llmstack.config.trusted import TrustedProject
    from llmstack.context import CliContext


def start(
    ctx: typer.Context,
    detach: DetachOption = False,
    foreground: Annotated[
        bool,
        typer.Option("--foreground", help="Stay in the foreground and log here, for systemd and containers."),
    ] = False,
    next_: NextOption = False,
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Start the stack and wait until it is healthy.

    Waits for the router and for the model of role `fast`. Lists the tiers that cannot start, each with a fix.
    On a terminal without the shell hook, opens a shell that is wired up to the stack.

    In a project that uses another project's router, starts nothing and verifies that the router answers.

    Example: llmstack start --detach
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.lifecycle.start import start_stack
    from llmstack.stack.lifecycle.start_plan import StartOptions
    from llmstack.stack.remote.thin_client import verify_router

    cli: CliContext = ctx.obj
    if detach and foreground:
        raise UsageError("--detach and --foreground exclude each other")
    options = StartOptions(next=next_, host=host, port=port, wait=not detach)
    console, trusted = cli.console, cli.require_trusted()
    if foreground:
        from llmstack.stack.lifecycle.foreground import run_foreground

        raise typer.Exit(run_foreground(trusted, cli.env, options))
    if (url := trusted.remote_url) is not None:
        if next_ or host or port:
            raise UsageError(f"the router is another project's: {url}", hint="use these options there")
        report.show_verify(console, verify_router(url, cli.env))
    else:
        with console.progress() as notify:
            result = start_stack(trusted, cli.env, options, notify=notify)
        report.show_start(console, result)
    if not detach and console.is_interactive and sys.stdin.isatty():
        _open_shell(cli, trusted)


def _open_shell(cli: CliContext, trusted: TrustedProject) -> None:
    """Open a shell that is wired up, unless this terminal is or its hook will do it."""
    from llmstack.report import lifecycle as report
    from llmstack.stack.lifecycle.subshell import is_activated, prepare_subshell
    from llmstack.stack.project import running_router

    if is_activated(cli.env):
        return
    console = cli.console
    try:
        run = prepare_subshell(trusted, cli.env, cli.cwd)
    except LlmstackError as error:
        console.warn(error.message, error.hint or "")
        return
    report.show_subshell_start(console)
    run()
    is_running = trusted.remote_url is not None or running_router(trusted.project) is not None
    report.show_subshell_end(console, is_running=is_running)

"""`llmstack demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import JsonOption

if TYPE_CHECKING:
    from llmstack.context import CliContext


def demo(
    ctx: typer.Context,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the stack running if the demo succeeds.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the whole stack at work, with tiny models.

    Builds the models, starts a stack in a temporary project, sends one request down every routing path, and
    stops everything again. Needs no download and no network.

    Example: llmstack demo --keep
    """
    from llmstack.report import demo as report
    from llmstack.stack.demo.demo import demo as run_demo

    cli: CliContext = ctx.obj
    console = cli.console
    with console.progress() as notify:
        result = run_demo(cli.user, cli.env, keep=keep, notify=notify)
    if as_json:
        console.json(
            {"ok": result.ok, "requests": result.requests, "swapper": result.swapper, "engine": result.engine}
        )
    else:
        report.show_demo(console, result)
    raise typer.Exit(0 if result.ok else 1)

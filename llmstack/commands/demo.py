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
        bool, typer.Option("--keep", help="Leave the stack running afterwards, if all went well.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the whole stack at work, with tiny models.

    They are built on the spot, and a request goes down every routing path. No download, no network;
    nothing is left running.

    Example: llmstack demo --keep
    """
    from llmstack.report import demo as report
    from llmstack.stack.demo.demo import demo as run_demo

    app: CliContext = ctx.obj
    console = app.console
    with console.progress() as tell:
        shown = run_demo(app.user, app.env, keep=keep, tell=tell)
    if as_json:
        console.json(
            {"ok": shown.ok, "requests": shown.requests, "swapper": shown.swapper, "engine": shown.engine}
        )
    else:
        report.demonstrated(console, shown)
    raise typer.Exit(0 if shown.ok else 1)

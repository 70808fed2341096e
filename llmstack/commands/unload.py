"""`llmstack unload`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def unload(
    ctx: typer.Context,
    tier: Annotated[
        str | None,
        typer.Argument(metavar="TIER", help="A tier or an alias; default: every tier.", show_default=False),
    ] = None,
) -> None:
    """Unload a tier, and free its memory.

    Waits for requests in flight.

    Example: llmstack unload plan
    """
    from llmstack.console import escape
    from llmstack.stack.lifecycle.load import unload_tiers

    cli: CliContext = ctx.obj
    with cli.console.progress() as notify:
        notify("waiting for requests in flight")
        names = unload_tiers(cli.require_trusted(), tier)
    cli.console.info(f"unloaded {escape(', '.join(names))}" if names else "nothing was loaded")

"""`llmstack load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def load(
    ctx: typer.Context,
    tier: Annotated[str, typer.Argument(metavar="TIER", help="A tier or an alias.", show_default=False)],
) -> None:
    """Load a tier into memory now.

    Unloads idle tiers if there is not enough memory.

    Example: llmstack load plan
    """
    from llmstack.console import escape
    from llmstack.stack.lifecycle.load import load_tier

    cli: CliContext = ctx.obj
    with cli.console.progress() as notify:
        name = load_tier(cli.require_trusted(), tier, notify=notify)
    cli.console.info(f"{escape(name)} is loaded")

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
        typer.Argument(metavar="TIER", help="Tier or alias; every tier without it.", show_default=False),
    ] = None,
) -> None:
    """Give a tier's memory back.

    Requests in flight end first.

    Example: llmstack unload plan
    """
    from llmstack.stack.lifecycle.load import unload as unload_tier

    app: CliContext = ctx.obj
    with app.console.progress() as tell:
        tell("waiting for requests in flight")
        names = unload_tier(app.project(), app.env, tier)
    app.console.say(f"unloaded {', '.join(names)}" if names else "nothing was resident")

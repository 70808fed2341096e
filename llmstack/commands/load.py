"""`llmstack load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def load(
    ctx: typer.Context,
    tier: Annotated[str, typer.Argument(metavar="TIER", help="Tier or alias.", show_default=False)],
) -> None:
    """Make a tier resident now.

    Others are swapped out where memory wants it.

    Example: llmstack load plan
    """
    from llmstack.stack.lifecycle.load import load as load_tier

    app: CliContext = ctx.obj
    with app.console.progress() as tell:
        name = load_tier(app.project(), app.env, tier, tell=tell)
    app.console.say(f"{name} is resident")

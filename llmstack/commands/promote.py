"""`llmstack promote`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def promote(
    ctx: typer.Context,
    tiers: Annotated[
        list[str] | None,
        typer.Argument(metavar="TIER", help="Tiers or aliases; all queued ones without.", show_default=False),
    ] = None,
) -> None:
    """Make queued upgrades permanent.

    Edits models.ini in place; its comments stay.

    Example: llmstack promote plan
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.install.promote import promote as promote_tiers

    app: CliContext = ctx.obj
    report.promoted(app.console, promote_tiers(app.project(), app.user.trusted_projects, tiers or []))

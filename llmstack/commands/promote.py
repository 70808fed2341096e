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
        typer.Argument(
            metavar="TIER", help="Tiers or aliases; default: all queued upgrades.", show_default=False
        ),
    ] = None,
) -> None:
    """Make queued upgrades permanent.

    Edits models.ini in place and keeps its comments.

    Example: llmstack promote plan
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.install.promote import promote as promote_tiers

    cli: CliContext = ctx.obj
    report.show_promote(cli.console, promote_tiers(cli.require_trusted(), tiers or []))

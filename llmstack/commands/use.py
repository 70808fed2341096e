"""`llmstack use`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def use(
    ctx: typer.Context,
    tier: Annotated[str, typer.Argument(metavar="TIER", help="A tier or an alias.")],
    model: Annotated[str, typer.Argument(metavar="MODEL", help="<provider>/<id>")],
    force: Annotated[bool, typer.Option("--force", help="Use the model even if it does not answer.")] = False,
) -> None:
    """Point a tier at another model.

    Tests the model first; if it does not answer, the tier keeps the old one. Edits models.ini in place, keeps
    its comments, and comments out settings that do not fit the new model.

    Example: llmstack use plan anthropic/sonnet
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.install.use import use as use_model

    cli: CliContext = ctx.obj
    result = use_model(cli.require_trusted(), cli.env, tier, model, force=force)
    console = cli.console
    if result.probe_error is not None:
        console.warn(f"{result.new_model} was asked, and {result.probe_error}")
    console.print(f"{result.tier}: {result.old_model} -> {result.new_model}")
    if result.disabled_keys:
        console.print(f"commented out in models.ini: {', '.join(result.disabled_keys)}")
    if result.reload is not None:
        report.show_reload(console, result.reload)

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
    force: Annotated[bool, typer.Option("--force", help="Even where the model does not answer.")] = False,
) -> None:
    """Point a tier at another model.

    The model is asked first; where it does not answer, the tier keeps the old one.

    Edits models.ini in place; its comments stay, and what does not fit the new model becomes one.

    Example: llmstack use plan anthropic/sonnet
    """
    from llmstack.report import lifecycle as report
    from llmstack.stack.install.use import use as use_model

    app: CliContext = ctx.obj
    done = use_model(app.project(), app.user, app.env, tier, model, force=force)
    console = app.console
    if done.unproved is not None:
        console.warn(f"{done.after} was asked, and {done.unproved}")
    console.data(f"{done.tier}: {done.before} -> {done.after}")
    if done.off:
        console.data(f"made comments in models.ini: {', '.join(done.off)}")
    if done.reloaded is not None:
        report.reloaded(console, done.reloaded)

"""`llmstack reload`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from llmstack.context import App


def reload(ctx: typer.Context) -> None:
    """Take up an edited models.ini.

    No request is dropped: tiers that changed finish what they are at, the others keep their process.
    A file with a mistake changes nothing.

    Example: llmstack reload
    """
    from llmstack import report
    from llmstack.stack.reload import reload as reload_stack

    app: App = ctx.obj
    with app.console.progress() as tell:
        tell("reloading")
        done = reload_stack(app.project(), app.env, app.user.trusted_projects)
    report.reloaded(app.console, done)

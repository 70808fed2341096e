"""`llmstack check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from llmstack.commands.options import JsonOption

if TYPE_CHECKING:
    from llmstack.context import App


def check(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Compare models.ini with this machine.

    Looks at files on disk, memory, and what runs now.

    Exit code 1 where a tier cannot start.

    Example: llmstack check --json
    """
    from llmstack import report
    from llmstack.stack.check import check as check_stack

    app: App = ctx.obj
    found = check_stack(app.find_project(), app.user, app.env)
    if as_json:
        app.console.json(found)
    else:
        report.checked(app.console, found)
    raise typer.Exit(1 if any(problem.level == "error" for problem in found.problems) else 0)

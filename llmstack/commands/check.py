"""`llmstack check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import JsonOption

if TYPE_CHECKING:
    from llmstack.context import CliContext


def check(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of the model hub.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare models.ini with this machine and the hub.

    Looks at files on disk and at the hub, at memory, and at what runs now.

    Exit code 1 where a tier cannot start.

    Example: llmstack check --json
    """
    from llmstack.report import check as report
    from llmstack.stack.check import check as check_stack
    from llmstack.stack.remote.remote_router import remote_url
    from llmstack.stack.remote.thin_client import check as check_client

    app: CliContext = ctx.obj
    project = app.find_project()
    if project is not None and (url := remote_url(project)) is not None:
        found = check_client(project, app.env, url)
    else:
        found = check_stack(project, app.user, app.env, offline=offline)
    if as_json:
        app.console.json(found)
    else:
        report.checked(app.console, found)
    raise typer.Exit(1 if any(problem.level == "error" for problem in found.problems) else 0)

"""`llmstack check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import JsonOption

if TYPE_CHECKING:
    from llmstack.context import CliContext


def check(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Do not contact the model hub.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare models.ini with this machine and the hub.

    Checks the files on disk and at the hub, the memory of this machine, and the running stack.

    Exits with 1 if a tier cannot start.

    Example: llmstack check --json
    """
    from llmstack.detached import call_interruptibly
    from llmstack.report import check as report
    from llmstack.stack.check import check as check_stack
    from llmstack.stack.remote.thin_client import check_thin_client

    cli: CliContext = ctx.obj
    trusted = cli.find_trusted()
    if trusted is not None and trusted.remote_url is not None:
        result = check_thin_client(trusted.project, cli.env, trusted.remote_url)
    else:
        # It reads files and asks a hub that may not answer.
        result = call_interruptibly(lambda: check_stack(trusted, cli.user, cli.env, offline=offline))
    if as_json:
        cli.console.json(result)
    else:
        report.show_check(cli.console, result)
    raise typer.Exit(1 if any(problem.level == "error" for problem in result.problems) else 0)

"""`llmstack run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def run(
    ctx: typer.Context,
    client: Annotated[
        str,
        typer.Argument(
            metavar="CLIENT",
            help="The coding agent: opencode, claude or codex.",
            show_default=False,
        ),
    ],
    allow_plugins: Annotated[
        bool,
        typer.Option(
            "--allow-plugins", help="Let it run what the repository brings: plugins, hooks, MCP servers."
        ),
    ] = False,
) -> None:
    """Run a coding agent wired to this stack.

    Starts the stack where needed.

    What follows CLIENT is passed on to it. The repository's own configuration of it cannot redirect it.

    Example: llmstack run opencode run "say hi"

    Example: llmstack run claude -p "say hi"

    Example: llmstack run codex exec "say hi"
    """
    from llmstack.stack.run import run as run_client

    app: CliContext = ctx.obj
    with app.console.progress() as tell:
        ready = run_client(
            client,
            ctx.args,
            app.project(),
            app.env,
            app.user.trusted_projects,
            cwd=app.cwd,
            allow_plugins=allow_plugins,
            tell=tell,
        )
    raise typer.Exit(ready())

"""`llmstack run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import App


def run(
    ctx: typer.Context,
    client: Annotated[str, typer.Argument(help="The coding agent: opencode.", show_default=False)],
    allow_plugins: Annotated[
        bool, typer.Option("--allow-plugins", help="Let it run the plugins of the repository it works in.")
    ] = False,
) -> None:
    """Run a coding agent wired to this stack.

    Starts the stack where needed.

    What follows CLIENT is passed on to it. A repository's own opencode.json cannot redirect it.

    Example: llmstack run opencode run "say hi"
    """
    from llmstack.stack.run import run as run_client

    app: App = ctx.obj
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

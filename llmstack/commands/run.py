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
        typer.Option("--allow-plugins", help="Allow plugins, hooks and MCP servers from the repository."),
    ] = False,
) -> None:
    """Run a coding agent wired to this stack.

    Starts the stack if it is not running. Passes everything after CLIENT to the agent. Configuration in the
    repository cannot redirect the agent to another server.

    Example: llmstack run opencode run "say hi"

    Example: llmstack run claude -p "say hi"

    Example: llmstack run codex exec "say hi"
    """
    from llmstack.stack.run import prepare_client

    cli: CliContext = ctx.obj
    with cli.console.progress() as notify:
        run_client = prepare_client(
            client,
            ctx.args,
            cli.require_trusted(),
            cli.env,
            cwd=cli.cwd,
            allow_plugins=allow_plugins,
            notify=notify,
        )
    raise typer.Exit(run_client())

"""`llmstack install-llama-swap`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def install_llama_swap(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Fetch it again, also where it is there.")] = False,
) -> None:
    """Fetch the llama-swap binary, for all projects.

    The newest release for this machine, or the one that LLAMA_SWAP_VERSION names, its SHA-256 verified.
    Without it the built-in pool swaps models.

    Example: llmstack install-llama-swap --force
    """
    from llmstack.report import downloads as report
    from llmstack.stack.install.llama_swap import install

    app: CliContext = ctx.obj
    with app.console.progress() as tell:
        done = install(app.find_project(), app.user, app.env, force=force, tell=tell)
    report.llama_swap(app.console, done)

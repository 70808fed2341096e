"""`llmstack install-llama-swap`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def install_llama_swap(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Fetch it even if it is installed.")] = False,
) -> None:
    """Fetch the llama-swap binary, for all projects.

    Fetches the newest release for this machine, or version $LLAMA_SWAP_VERSION, and verifies its SHA-256. The
    binary is optional: without it, the built-in pool swaps models.

    Example: llmstack install-llama-swap --force
    """
    from llmstack.report import downloads as report
    from llmstack.stack.install.llama_swap import install_llama_swap as install_release

    cli: CliContext = ctx.obj
    with cli.console.progress() as notify:
        release = install_release(cli.find_trusted(), cli.user, cli.env, force=force, notify=notify)
    report.show_llama_swap(cli.console, release)

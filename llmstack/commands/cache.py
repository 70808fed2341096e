"""`llmstack cache`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import JsonOption

if TYPE_CHECKING:
    from llmstack.context import CliContext


class Action(StrEnum):
    """What to do with the saved prompt caches."""

    LIST = "list"
    CLEAR = "clear"


def cache(
    ctx: typer.Context,
    action: Annotated[Action, typer.Argument(help="List them, or delete all of them.")] = Action.LIST,
    as_json: JsonOption = False,
) -> None:
    """List or clear saved prompt caches.

    When a model is unloaded, llmstack saves what it has read of your conversations, for all projects, up to
    `kv_cache_gb`. Clearing the caches loses no data: models read the prompts again, which takes time.

    Example: llmstack cache clear
    """
    from llmstack.report.format import format_size
    from llmstack.report.status import show_prompt_caches
    from llmstack.stack.prompt_caches import clear_caches, list_caches

    cli: CliContext = ctx.obj
    directory = cli.user.prompt_caches
    if action is Action.CLEAR:
        freed = clear_caches(directory)
        if as_json:
            cli.console.json({"freed_bytes": freed})
        else:
            cli.console.info(f"freed {format_size(freed)}" if freed else "nothing was saved")
        return
    trusted = cli.find_trusted()
    caches = list_caches(directory, trusted.declared if trusted is not None else None)
    if as_json:
        cli.console.json(caches)
    else:
        show_prompt_caches(cli.console, caches)

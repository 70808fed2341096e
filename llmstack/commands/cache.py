"""`llmstack cache`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import JsonOption

if TYPE_CHECKING:
    from llmstack.context import CliContext


class Action(StrEnum):
    """What to do with them."""

    LIST = "list"
    CLEAR = "clear"


def cache(
    ctx: typer.Context,
    action: Annotated[Action, typer.Argument(help="What to do with them.")] = Action.LIST,
    as_json: JsonOption = False,
) -> None:
    """List or clear saved prompt caches.

    They were saved when models were swapped out: your conversations as the models have read them, of all
    projects, within `kv_cache_gb`. Clearing them costs time only: prompts are read again.

    Example: llmstack cache clear
    """
    from llmstack.config import load
    from llmstack.report.figures import size
    from llmstack.report.status import prompt_caches
    from llmstack.stack.prompt_caches import clear, kept

    app: CliContext = ctx.obj
    root = app.user.prompt_caches
    if action is Action.CLEAR:
        freed = clear(root)
        if as_json:
            app.console.json({"freed_bytes": freed})
        else:
            app.console.say(f"freed {size(freed)}" if freed else "nothing was saved")
        return
    project = app.find_project()
    found = kept(root, load(project.models_ini) if project and project.models_ini.exists() else None)
    if as_json:
        app.console.json(found)
    else:
        prompt_caches(app.console, found)

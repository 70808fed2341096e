"""`llmstack mcp`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def mcp(ctx: typer.Context) -> None:
    """Serve tiers and providers as an MCP server over stdio.

    A tool for `auto` and each tier (tier_NAME; the stack must run), one for each provider (provider_NAME).

    Example: llmstack mcp
    """
    from llmstack.stack.mcp import serve

    app: CliContext = ctx.obj
    serve(app.find_project(), app.env, app.user)

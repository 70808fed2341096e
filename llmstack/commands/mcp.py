"""`llmstack mcp`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def mcp(ctx: typer.Context) -> None:
    """Serve tiers and providers as an MCP server over stdio.

    Offers a tool for `auto` and each tier (tier_NAME; the stack must run) and for each provider
    (provider_NAME).

    Example: llmstack mcp
    """
    from llmstack.stack.mcp import serve

    cli: CliContext = ctx.obj
    serve(cli.find_trusted(), cli.env, cli.user)

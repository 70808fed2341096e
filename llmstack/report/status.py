"""Results of `status` and `cache`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from llmstack.console import colorize, escape
from llmstack.report import downloads
from llmstack.report.format import format_duration, format_size, format_tokens, state_word

if TYPE_CHECKING:
    from llmstack.console import Console
    from llmstack.stack.lifecycle.status import StackStatus, TierStatus
    from llmstack.stack.prompt_caches import PromptCaches

MAX_DECISIONS = 8
# One for each cell of `_tier_row`; `>` aligns to the right, `~` wraps.
TIER_COLUMNS = ("tier", "state", "role", ">ctx", ">MB", ">busy", "model~")


def show_prompt_caches(console: Console, caches: PromptCaches) -> None:
    """Show the saved prompt caches."""
    now = time.time()
    if caches.saved:
        console.table(
            ("tier", "model…", ">tokens", ">size", ">used"),
            [
                (
                    escape(saved.tier),
                    escape(saved.model),
                    str(saved.tokens),
                    format_size(saved.size_bytes),
                    f"{format_duration(max(0.0, now - saved.used))} ago",
                )
                for saved in caches.saved
            ],
        )
    console.info(
        f"{len(caches.saved)} conversations, {format_size(caches.total_bytes)}"
        f" of {format_size(caches.budget_bytes)}"
        f" in {escape(str(caches.directory))}"
    )


def show_status(console: Console, status: StackStatus) -> None:
    """Show the router, the tiers, the last decisions and the downloads."""
    router = status.router
    if status.channel.startswith("external"):
        _show_foreign_router(console, status)
        return
    if router.healthy:
        details = f"pid {router.pid}, up {format_duration(router.uptime_s or 0)}, {router.rss_mb or 0:.0f} MB"
        console.print(f"router   {router.url}  {details}")
        swapper = status.swapper
        process = f" (pid {swapper.get('pid') or '-'}, port {swapper['port']})" if "port" in swapper else ""
        console.print(
            f"swapper  {swapper['kind']}{process}, {swapper['engine']} llama.cpp,"
            f" budget {swapper['budget_gb']:g} GB"
        )
        console.print(f"prompts  {swapper['prompt_cache']}")
        if status.litellm:
            _show_litellm(console, status.litellm)
    else:
        console.print(f"router   {router.url}  {router.problem}")
    console.print(f"project  {status.work_dir}  channel {status.channel}\n")
    console.table(
        TIER_COLUMNS,
        [_tier_row(tier) for tier in status.tiers],
    )
    for tier in status.tiers:
        if tier.detail:
            console.warn(f"{tier.name}: {tier.detail}")
    if status.recent:
        console.print("")
        console.table(
            (">ago", "asked", "tier", ">tokens", ">s", "outcome~", "reason~"),
            [
                (
                    format_duration(time.time() - record["at"]),
                    escape(record["asked"]),
                    escape(record["tier"]),
                    str(record["tokens"]),
                    f"{record['total_s']:.2f}",
                    colorize(record["outcome"]),
                    escape(record["reason"]),
                )
                for record in status.recent[-MAX_DECISIONS:]
            ],
        )
    downloads.show_downloads(console, status.downloads)
    if router.pid is None:
        console.info("start it with `llmstack start`")


def _show_foreign_router(console: Console, status: StackStatus) -> None:
    """Show the router of another project; a single line if it does not answer."""
    router = status.router
    if not router.healthy:
        console.print(f"router   {router.url}  {router.problem}")
        return
    console.print(f"router   {router.url}  another project's, up {format_duration(router.uptime_s or 0)}")
    console.print(f"project  {status.work_dir}  channel {status.channel}\n")
    console.table(TIER_COLUMNS, [*map(_tier_row, status.tiers)])


def _show_litellm(console: Console, proxy: dict[str, Any]) -> None:
    """Show the LiteLLM proxy, its MCP gateway and its web page."""
    if proxy["state"] != "up":
        console.print(f"litellm  {proxy['state']} (port {proxy['port']})")
        return
    details = f"pid {proxy['pid']}, port {proxy['port']}, {proxy['rss_mb'] or 0:.0f} MB"
    console.print(f"litellm  {proxy['mcp']}  {proxy['ui']}  ({details})")
    console.print(f"         both require its key, and /ui a database: cat {proxy['key_file']}")


def _tier_row(tier: TierStatus) -> tuple[str, ...]:
    waiting = f" +{tier.waiting}" if tier.waiting else ""
    return (
        escape(tier.name),
        colorize(state_word(tier.state)),
        escape(tier.role or "-"),
        format_tokens(tier.ctx_size),
        f"{tier.rss_mb:.0f}" if tier.rss_mb is not None else "-",
        f"{tier.leases}{waiting}" if tier.leases or waiting else "-",
        escape(tier.model if tier.channel == "current" else f"{tier.model} (next)"),
    )

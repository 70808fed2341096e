"""What runs, and what it keeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from llmstack.console import escape, styled
from llmstack.report import downloads
from llmstack.report.figures import duration, size, tokens

if TYPE_CHECKING:
    from llmstack.console import Console
    from llmstack.stack.lifecycle.status import StackStatus, TierStatus
    from llmstack.stack.prompt_caches import PromptCaches

SHOWN_DECISIONS = 8


def prompt_caches(console: Console, found: PromptCaches) -> None:
    """Show the saved prompt caches."""
    now = time.time()
    if found.saved:
        console.table(
            ("tier", "model…", ">tokens", ">size", ">used"),
            [
                (
                    escape(one.tier),
                    escape(one.model),
                    str(one.tokens),
                    size(one.size_bytes),
                    f"{duration(max(0.0, now - one.used))} ago",
                )
                for one in found.saved
            ],
        )
    console.say(
        f"{len(found.saved)} conversations, {size(found.total_bytes)} of {size(found.budget_bytes)}"
        f" in {escape(str(found.directory))}"
    )


def status(console: Console, now: StackStatus) -> None:
    """Show the router, the tiers and the last decisions."""
    router = now.router
    if now.channel.startswith("external"):
        _elsewhere(console, now)
        return
    if router.healthy:
        facts = f"pid {router.pid}, up {duration(router.uptime_s or 0)}, {router.rss_mb or 0:.0f} MB"
        console.data(f"router   {router.url}  {facts}")
        swapper = now.swapper
        where = f" (pid {swapper['pid'] or '-'}, port {swapper['port']})" if "port" in swapper else ""
        console.data(
            f"swapper  {swapper['kind']}{where}, {swapper['engine']} llama.cpp,"
            f" budget {swapper['budget_gb']:g} GB"
        )
        console.data(f"prompts  {swapper['prompt_cache']}")
        if now.litellm:
            _litellm(console, now.litellm)
    else:
        console.data(f"router   {router.url}  {router.problem}")
    console.data(f"project  {now.work_dir}  channel {now.channel}\n")
    console.table(
        ("tier", "state", "role", ">ctx", ">MB", ">busy", "model~"), [_tier_row(tier) for tier in now.tiers]
    )
    for tier in now.tiers:
        if tier.detail:
            console.warn(f"{tier.name}: {tier.detail}")
    if now.recent:
        console.data("")
        console.table(
            (">ago", "asked", "tier", ">tokens", ">s", "outcome~", "reason~"),
            [
                (
                    duration(time.time() - record["at"]),
                    escape(record["asked"]),
                    escape(record["tier"]),
                    str(record["tokens"]),
                    f"{record['total_s']:.2f}",
                    styled(record["outcome"]),
                    escape(record["reason"]),
                )
                for record in now.recent[-SHOWN_DECISIONS:]
            ],
        )
    downloads.table(console, now.downloads)
    if router.pid is None:
        console.say("start it with `llmstack start`")


def _elsewhere(console: Console, now: StackStatus) -> None:
    """Show the router of another project; one line where it does not answer."""
    router = now.router
    if not router.healthy:
        console.data(f"router   {router.url}  {router.problem}")
        return
    console.data(f"router   {router.url}  another project's, up {duration(router.uptime_s or 0)}")
    console.data(f"project  {now.work_dir}  channel {now.channel}\n")
    console.table(("tier", "state", "role", ">ctx", ">MB", ">busy", "model~"), [*map(_tier_row, now.tiers)])


def _litellm(console: Console, proxy: dict[str, Any]) -> None:
    """Show the LiteLLM proxy, and how to get at what it has beside models."""
    if proxy["state"] != "up":
        console.data(f"litellm  {proxy['state']} (port {proxy['port']})")
        return
    facts = f"pid {proxy['pid']}, port {proxy['port']}, {proxy['rss_mb'] or 0:.0f} MB"
    console.data(f"litellm  {proxy['mcp']}  {proxy['ui']}  ({facts})")
    console.data(f"         both want its key, /ui a database too: cat {proxy['key_file']}")


def _tier_row(tier: TierStatus) -> tuple[str, ...]:
    waiting = f" +{tier.waiting}" if tier.waiting else ""
    return (
        escape(tier.name),
        styled(tier.state),
        escape(tier.role or "-"),
        tokens(tier.ctx_size),
        f"{tier.rss_mb:.0f}" if tier.rss_mb is not None else "-",
        f"{tier.leases}{waiting}" if tier.leases or waiting else "-",
        escape(tier.model if tier.channel == "current" else f"{tier.model} (next)"),
    )

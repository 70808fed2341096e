"""How results look to a person: one function for each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from llmstack import report_downloads
from llmstack.console import escape, styled

if TYPE_CHECKING:
    from llmstack.console import Console
    from llmstack.stack.check import Checked, TierCheck
    from llmstack.stack.demo import Demo
    from llmstack.stack.install import Installed
    from llmstack.stack.promote import Promoted
    from llmstack.stack.prompt_caches import PromptCaches
    from llmstack.stack.proposal import Proposal
    from llmstack.stack.reload import Reloaded
    from llmstack.stack.start import Started
    from llmstack.stack.status import StackStatus, TierStatus
    from llmstack.stack.stop import Stopped
    from llmstack.stack.thin_client import Verified

GB = 1024**3
MB = 1024**2
KB = 1024
SHOWN_DECISIONS = 8


def duration(seconds: float) -> str:
    """Return a time span as people say it: `42 s`, `3 min`, `5 h`, `2 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Return bytes as people say them: `38 KB`, `3 MB`, `2.5 GB`."""
    if 0 < count < MB:
        return f"{count / KB:.0f} KB"
    return f"{count / GB:.1f} GB" if count >= GB else f"{count / MB:.0f} MB"


def tokens(count: int) -> str:
    """Return a window as people write it: `128k`."""
    return f"{count // 1024}k" if count >= 1024 and count % 1024 == 0 else str(count)  # noqa: PLR2004


def installed(console: Console, done: Installed) -> None:
    """Show what `install` wrote and what comes next."""
    console.say(f"[bold]{escape(str(done.work_dir))}[/] is installed on channel {escape(str(done.channel))}")
    if done.chosen is not None:
        _chosen(console, done.chosen)
    for path in done.written:
        console.say(f"  wrote {escape(str(path))}")
    for path in done.kept:
        console.say(f"  kept  {escape(str(path))} (yours)")
    for name, why in done.unavailable.items():
        console.warn(f"{name} cannot start yet: {why}")
    to_fetch = any("llmstack download" in why for why in done.unavailable.values())
    fetch = "`llmstack download`, then " if to_fetch else ""
    console.say(f"next: {fetch}`llmstack {'restart' if done.restart else 'start'}`")


def _chosen(console: Console, choice: Proposal) -> None:
    """Show which profile was taken for this machine, and why."""
    if choice.fits:
        console.say(f"  profile {choice.profile}: {escape(choice.why)}; another one with --profile")
        return
    console.warn(
        f"no profile fits: {choice.why}; profile {choice.profile} was written",
        "its models are loaded one at a time, or not at all: name smaller ones, lower `ctx_size`, or use"
        " hosted tiers",
    )


def started(console: Console, done: Started) -> None:
    """Show where the stack is, and which tiers are missing from it."""
    how = "was running already" if done.already else f"is up after {done.seconds:.1f} s"
    channel = "" if str(done.channel) == "current" else f", channel {escape(str(done.channel))}"
    console.say(f"[bold green]llmstack[/] {how} at [bold]{escape(done.url)}[/] (pid {done.pid}{channel})")
    if done.preloaded:
        console.say(f"  {escape(done.preloaded)} is {styled(done.state)}")
        if done.detail:
            console.warn(done.detail)
    for name, why in done.unavailable.items():
        console.warn(f"{name} cannot start: {why}")
    if not done.already:
        console.say("next: `llmstack run opencode`, or any OpenAI client with model `auto`")


def verified(console: Console, done: Verified) -> None:
    """Show that the router of another project answers."""
    tiers = escape(", ".join(done.tiers))
    console.say(f"the router at [bold]{escape(done.url)}[/] answers; its tiers: auto, {tiers}")
    console.say("next: `llmstack run opencode`, or any OpenAI client with model `auto`")


def refetched(console: Console, url: str) -> None:
    """Show that a thin client's files are new."""
    console.say(f"fetched again from {escape(url)}; opencode.json is written")


def not_ours(console: Console, url: str) -> None:
    """Say why `stop` has nothing to do."""
    console.say(f"nothing to stop: the router at {escape(url)} is another project's")


def entered(console: Console) -> None:
    """Show that a shell opens."""
    console.say("this shell is wired up; `exit` leaves it, and the stack runs on")
    console.say("  to be wired up wherever you enter a project: `llmstack activate --help`")


def left(console: Console, *, serves: bool) -> None:
    """Show what goes on behind the shell."""
    console.say("left the shell; " + ("the stack runs on" if serves else "the stack does not run any more"))


def stopped(console: Console, done: Stopped) -> None:
    """Show what was stopped."""
    if not done.was_running:
        console.say("nothing was running")
        return
    console.say("stopped" if not done.killed else "stopped; the router had to be killed")
    for name in done.leftovers:
        console.say(f"  {escape(name)} had outlived its router and was stopped too")


def reloaded(console: Console, done: Reloaded) -> None:
    """Show which tiers changed, and what it cost."""
    console.say(f"reloaded; tiers that changed: {escape(', '.join(done.changed)) or 'none'}")
    for text in done.cut:
        console.warn(text)
    for name, why in done.unavailable.items():
        console.warn(f"{name} cannot start: {why}")


def promoted(console: Console, done: Promoted) -> None:
    """Show what serves each tier now."""
    for name, (before, now) in done.tiers.items():
        console.say(f"{escape(name)}: {escape(now)}, in place of {escape(before)}")
    console.say("next: `llmstack restart`" if done.running else "next: `llmstack start`")


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
    report_downloads.table(console, now.downloads)
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


def checked(console: Console, found: Checked) -> None:
    """Show configured against actual."""
    console.data(f"models   {found.source}")
    if found.budget_bytes:
        console.data(f"engine   {found.engine or 'none'}")
        console.data(f"budget   {size(found.budget_bytes)}: {found.budget_origin}\n")
        columns = ("tier", "on disk", ">weights", ">KV", ">cache", ">all", "fits", "file or model~")
        console.table(columns, [_check_row(tier) for tier in found.tiers])
    else:  # another's router: files and memory are its own business
        rows = [(escape(tier.name), tier.backend, escape(tier.file)) for tier in found.tiers]
        console.data("")
        console.table(("tier", "backend", "file or model~"), rows)
    changes = [(escape(tier.name), change) for tier in found.tiers for change in _changes(tier)]
    if changes:
        console.data("")
        console.table(("tier", "change~"), changes)
    if found.combinations:
        known = {tier.name for tier in found.tiers if tier.kv_known}
        console.data("")
        console.table(
            ("resident together", ">memory", ""),
            [
                (
                    escape(" + ".join(each.tiers)),
                    size(each.need_bytes)
                    if known.issuperset(each.tiers)
                    else f"over {size(each.need_bytes)}",
                    "" if each.need_bytes <= found.budget_bytes else "[yellow]over the budget, by itself[/]",
                )
                for each in found.combinations
            ],
        )
    for problem in found.problems:
        text = f"{problem.tier}: {problem.message}" if problem.tier else problem.message
        console.warn(text, problem.hint)


def _check_row(tier: TierCheck) -> tuple[str, ...]:
    need = tier.need
    disk = "-" if tier.on_disk is None else "[green]yes[/]" if tier.on_disk else "[red]no[/]"
    fits = "-" if tier.fits is None else "[green]yes[/]" if tier.fits else "[yellow]alone[/]"
    sizes = (need.weights, need.kv, need.prompt_cache, need.total) if need else ()
    figures = tuple(size(part) for part in sizes) or ("-",) * 4
    if need and not tier.kv_known:
        weights = figures[0] if need.weights else "?"
        figures = (weights, "?", *figures[2:])  # its shape is in the file
    return (escape(tier.name), disk, *figures, fits, escape(tier.file))


def _changes(tier: TierCheck) -> list[str]:
    """Return how the running stack differs from models.ini, what is queued, and what the hub has."""
    changes = [f"[red]DRIFT[/] {escape(tier.drift)}"] if tier.drift else []
    if tier.next:
        here = "" if tier.next_on_disk is not False else " (not on disk)"
        changes.append(f"queued: {escape(tier.next)}{here}")
    if tier.hub and tier.hub.size_bytes:
        since = f", changed {tier.hub.date[:10]}" if tier.hub.date else ""
        changes.append(f"at the hub: {size(tier.hub.size_bytes)}{since}")
    return changes


def demonstrated(console: Console, shown: Demo) -> None:
    """Show every request of the demo: tier, reason, speed, and what the model said."""
    rows = [
        (
            escape(answer.request),
            escape(answer.tier) if answer.ok else f"[red]{escape(answer.tier)}, wanted {answer.expected}[/]",
            f"{answer.ttft_ms:.0f}",
            f"{answer.tokens_per_s:.0f}" if answer.tokens_per_s else "-",
            escape(answer.reason),
            escape(", ".join(answer.resident)),
        )
        for answer in shown.requests
    ]
    console.table(("request", "tier", ">ttft ms", ">tok/s", "reason~", "resident then~"), rows)
    console.data("")
    answers = [(escape(answer.request), escape(answer.answer)) for answer in shown.requests]
    console.table(("request", "answer…"), answers)
    verdict = "every request was" if shown.ok else "NOT every request was"
    console.data(f"\n{verdict} answered by the tier the policy names, in {shown.seconds:.1f} s")
    console.data(
        f"{shown.swaps} models swapped out on the way ({shown.swapper} swapper, {shown.engine} llama.cpp)"
    )
    if shown.kept:
        _how_to_talk(console, shown)


def _how_to_talk(console: Console, shown: Demo) -> None:
    body = '{"messages": [{"role": "user", "content": "hello"}]}'
    console.data(
        f"\nThe stack runs at {shown.url}. Talk to it:\n\n"
        f"  curl {shown.url}/v1/chat/completions -d '{body}'\n"
        f"  cd {shown.work_dir} && llmstack run opencode\n\n"
        f"Stop it:\n\n  cd {shown.work_dir} && llmstack stop"
    )

"""The result of `check`: models.ini compared with this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.console import escape
from llmstack.report.format import format_size

if TYPE_CHECKING:
    from llmstack.console import Console
    from llmstack.stack.check import CheckResult, TierCheck


def show_check(console: Console, result: CheckResult) -> None:
    """Show each tier, what fits together, and the problems."""
    console.print(f"models   {result.source}")
    if result.budget_bytes:
        console.print(f"engine   {result.engine or 'none'}")
        console.print(f"budget   {format_size(result.budget_bytes)}: {result.budget_origin}\n")
        columns = ("tier", "on disk", ">weights", ">KV", ">cache", ">all", "fits", "file or model~")
        console.table(columns, [_check_row(tier) for tier in result.tiers])
    else:  # another project's router: its files and memory are not known here
        rows = [(escape(tier.name), escape(tier.backend), escape(tier.file)) for tier in result.tiers]
        console.print("")
        console.table(("tier", "backend", "file or model~"), rows)
    changes = [(escape(tier.name), change) for tier in result.tiers for change in _changes(tier)]
    if changes:
        console.print("")
        console.table(("tier", "change~"), changes)
    if result.combinations:
        with_kv = {tier.name for tier in result.tiers if tier.kv_known}
        console.print("")
        console.table(
            ("loaded together", ">memory", ""),
            [
                (
                    escape(" + ".join(combination.tiers)),
                    ("" if with_kv.issuperset(combination.tiers) else "over ")
                    + format_size(combination.need_bytes),
                    ""
                    if combination.need_bytes <= result.budget_bytes
                    else "[yellow]over the budget on its own[/]",
                )
                for combination in result.combinations
            ],
        )
    for problem in result.problems:
        text = f"{problem.tier}: {problem.message}" if problem.tier else problem.message
        console.warn(text, problem.hint)


def _check_row(tier: TierCheck) -> tuple[str, ...]:
    need = tier.need
    on_disk = "-" if tier.on_disk is None else "[green]yes[/]" if tier.on_disk else "[red]no[/]"
    fits = "-" if tier.fits is None else "[green]yes[/]" if tier.fits else "[yellow]alone[/]"
    sizes = (need.weights, need.kv, need.prompt_cache, need.total) if need else ()
    figures = tuple(format_size(part) for part in sizes) or ("-",) * 4
    if need and not tier.kv_known:
        weights = figures[0] if need.weights else "?"
        figures = (weights, "?", *figures[2:])  # the KV cache depends on the file, which is missing
    return (escape(tier.name), on_disk, *figures, fits, escape(tier.file))


def _changes(tier: TierCheck) -> list[str]:
    """Return how the running stack differs from models.ini, the queued upgrade, and the file on the hub."""
    changes = [f"[red]DRIFT[/] {escape(tier.drift)}"] if tier.drift else []
    if tier.next:
        suffix = "" if tier.next_on_disk is not False else " (not on disk)"
        changes.append(f"queued: {escape(tier.next)}{suffix}")
    if tier.hub and tier.hub.size_bytes:
        since = f", changed {escape(tier.hub.date[:10])}" if tier.hub.date else ""
        changes.append(f"at the hub: {format_size(tier.hub.size_bytes)}{since}")
    return changes

"""models.ini against this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.console import escape
from llmstack.report.figures import size

if TYPE_CHECKING:
    from llmstack.console import Console
    from llmstack.stack.check import Checked, TierCheck


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

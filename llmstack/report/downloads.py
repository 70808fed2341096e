"""Results of `download`, `install-llama-swap` and `setup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.console import escape
from llmstack.progress import STYLES, FileProgress, format_decimal_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmstack.console import Console
    from llmstack.serving.llama_swap.release import InstalledRelease
    from llmstack.stack.download.plan import DownloadPlan
    from llmstack.stack.download.state import DownloadDir, DownloadItem, DownloadRun
    from llmstack.stack.install.setup import Step


def item_name(item: DownloadItem) -> str:
    """Return the tier of a file, followed by `(next)` for a queued upgrade."""
    return item.tier if item.label == "current" else f"{item.tier} (next)"


def as_bars(show: Callable[[Sequence[FileProgress]], None]) -> Callable[[DownloadRun], None]:
    """Return a function that shows the state of a download as bars."""
    return lambda run: show(
        [FileProgress(item_name(item), item.state, item.bytes, item.total) for item in run.items]
    )


def show_plan(console: Console, plan: DownloadPlan) -> None:
    """Show the files that are on disk already."""
    for item in plan.present:
        console.info(escape(f"{item_name(item)}: {item.file} is on disk"))
    if not plan.items:
        console.info("nothing to fetch: every file is on disk" if plan.present else "nothing to fetch")


def confirm_default_profile(console: Console, plan: DownloadPlan) -> bool:
    """Outside any project, ask before all models of the default profile are fetched: they may fill a disk."""
    if not console.is_interactive or console.confirm(
        f"There is no project here. Fetch the default profile: {_total(plan)}?"
    ):
        return True
    console.info("nothing fetched; `llmstack download TIER` fetches only what you want")
    return False


def show_background(console: Console, plan: DownloadPlan, run: DownloadRun, directory: DownloadDir) -> None:
    """Show what a background download fetches, and how to follow it."""
    console.info(f"fetching {_total(plan)} in the background (pid {run.identity.pid})")
    for item in plan.items:
        console.info(
            escape(f"  {item_name(item)}: {item.file}, log {directory.log_file(item.tier, item.label)}")
        )
    console.info("next: `llmstack status` shows the progress, `llmstack download --wait` waits for the end")


def _total(plan: DownloadPlan) -> str:
    size = f", about {plan.size_gb:g} GB" if plan.size_gb else ""
    return f"{len(plan.items)} file{'s' if len(plan.items) > 1 else ''}{size}"


def show_result(console: Console, run: DownloadRun) -> None:
    """Show the outcome of each file."""
    for item in run.items:
        if item.state == "done":
            console.info(
                escape(f"{item_name(item)}: {item.file} is on disk, {format_decimal_bytes(item.bytes)}")
            )
        else:
            console.warn(f"{item_name(item)}: {item.error or item.state}", item.hint)


def show_llama_swap(console: Console, release: InstalledRelease) -> None:
    """Show the installed version of llama-swap."""
    version = f" v{release.version}" if release.version else ""
    if release.is_new:
        console.info(escape(f"llama-swap{version} is installed: {release.path}"))
    else:
        console.info(
            escape(f"llama-swap{version} was already installed: {release.path}; `--force` fetches the newest")
        )


def show_step(console: Console, step: Step) -> Step:
    """Show one step of `setup`, and return it."""
    style = {"ok": "green", "done": "bold green", "failed": "red", "missing": "yellow"}.get(step.state, "dim")
    console.info(f"[{style}]{step.state:8}[/] {step.name:11} {escape(step.detail)}")
    if step.hint:
        console.info(f"{'':20} {escape(step.hint)}")
    return step


def show_setup(console: Console, steps: Sequence[Step]) -> None:
    """Show the next commands after `setup`."""
    if all(step.state == "ok" for step in steps):
        console.info("nothing to do: everything is set up")
    console.info("next, in a project: `llmstack install`, `llmstack start`, `llmstack run opencode`")


def show_downloads(console: Console, items: Sequence[DownloadItem]) -> None:
    """Show a download within `status`, as a single line if all of it is done."""
    if not items:
        return
    console.print("")
    if all(item.state == "done" for item in items):
        console.print(f"downloads: {len(items)} of {len(items)} files done")
        return
    rows = [
        (
            escape(item_name(item)),
            f"[{STYLES[item.state]}]{item.state}[/]" if item.state in STYLES else escape(item.state),
            f"{item.bytes / item.total:.0%}" if item.total else "-",
            format_decimal_bytes(item.total) if item.total is not None else "?",
            escape(item.error or item.file),
        )
        for item in items
    ]
    console.table(("download", "state", ">done", ">of", "file~"), rows)
    if any(item.state in {"failed", "interrupted"} for item in items):
        console.info("resume with `llmstack download`; what was fetched is kept")

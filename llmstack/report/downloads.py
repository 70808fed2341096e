"""How downloads look to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.console import escape
from llmstack.progress import STYLES, Bar, amount

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmstack.console import Console
    from llmstack.serving.llama_swap.release import InstalledRelease
    from llmstack.stack.download.plan import Planned
    from llmstack.stack.download.state import DownloadDir, Downloads, Item
    from llmstack.stack.install.setup import Step


def name(item: Item) -> str:
    """Return what a file is called: its tier, and `next` where it is a queued upgrade."""
    return item.tier if item.label == "current" else f"{item.tier} (next)"


def bars(show: Callable[[Sequence[Bar]], None]) -> Callable[[Downloads], None]:
    """Return what shows a run as bars."""
    return lambda now: show([Bar(name(item), item.state, item.bytes, item.total) for item in now.items])


def planned(console: Console, found: Planned) -> None:
    """Show what is here already."""
    for item in found.present:
        console.say(escape(f"{name(item)}: {item.file} is on disk"))
    if not found.items:
        console.say("nothing to fetch: every file is on disk" if found.present else "nothing to fetch")


def wants_all(console: Console, found: Planned) -> bool:
    """Ask whoever stands in no project whether they mean the default profile: its models fill a disk."""
    if not console.interactive or console.confirm(
        f"There is no project here. Fetch the default profile: {_amount(found)}?"
    ):
        return True
    console.say("nothing is fetched; `llmstack download TIER` fetches the ones you want")
    return False


def started(console: Console, found: Planned, now: Downloads, place: DownloadDir) -> None:
    """Show what a download in the background fetches, and where to look."""
    console.say(f"fetching {_amount(found)} in the background (pid {now.identity.pid})")
    for item in found.items:
        console.say(escape(f"  {name(item)}: {item.file}, log {place.log(item.tier, item.label)}"))
    console.say("see how far it is with `llmstack status`, wait for it with `llmstack download --wait`")


def _amount(found: Planned) -> str:
    about = f", about {found.size_gb:g} GB" if found.size_gb else ""
    return f"{len(found.items)} file{'s' if len(found.items) > 1 else ''}{about}"


def ended(console: Console, now: Downloads) -> None:
    """Show what became of each file."""
    for item in now.items:
        if item.state == "done":
            console.say(escape(f"{name(item)}: {item.file} is here, {amount(item.bytes)}"))
        else:
            console.warn(f"{name(item)}: {item.error or item.state}", item.hint)


def llama_swap(console: Console, done: InstalledRelease) -> None:
    """Show which llama-swap is there."""
    version = f" v{done.version}" if done.version else ""
    if done.fetched:
        console.say(escape(f"llama-swap{version} is installed: {done.path}"))
    else:
        console.say(escape(f"llama-swap{version} was there: {done.path}; `--force` fetches the newest"))


def step(console: Console, found: Step) -> Step:
    """Show one step of `setup`, and return it."""
    style = {"ok": "green", "done": "bold green", "failed": "red", "missing": "yellow"}.get(
        found.state, "dim"
    )
    console.say(f"[{style}]{found.state:8}[/] {found.name:11} {escape(found.detail)}")
    if found.hint:
        console.say(f"{'':20} {escape(found.hint)}")
    return found


def set_up(console: Console, steps: Sequence[Step]) -> None:
    """Show how `setup` ended, and how to go on."""
    if all(each.state == "ok" for each in steps):
        console.say("nothing had to be done")
    console.say("next, in a project: `llmstack install`, `llmstack start`, `llmstack run opencode`")


def table(console: Console, items: Sequence[Item]) -> None:
    """Show a download within `status`; one that ended well is a line."""
    if not items:
        return
    console.data("")
    if all(item.state == "done" for item in items):
        console.data(f"downloads: {len(items)} of {len(items)} files done")
        return
    rows = [
        (
            escape(name(item)),
            f"[{STYLES[item.state]}]{item.state}[/]" if item.state in STYLES else item.state,
            f"{item.bytes / item.total:.0%}" if item.total else "-",
            amount(item.total) if item.total is not None else "?",
            escape(item.error or item.file),
        )
        for item in items
    ]
    console.table(("download", "state", ">done", ">of", "file~"), rows)
    if any(item.state in {"failed", "interrupted"} for item in items):
        console.say("go on with `llmstack download`: what was fetched is kept")

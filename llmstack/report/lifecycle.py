"""Installing, starting, stopping and changing a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.console import escape, styled

if TYPE_CHECKING:
    from llmstack.console import Console
    from llmstack.stack.install.install import InstallResult
    from llmstack.stack.install.profile_choice import ProfileChoice
    from llmstack.stack.install.promote import Promoted
    from llmstack.stack.lifecycle.reload import Reloaded
    from llmstack.stack.lifecycle.start import Started
    from llmstack.stack.lifecycle.stop import Stopped
    from llmstack.stack.remote.thin_client import Verified


def installed(console: Console, done: InstallResult) -> None:
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


def _chosen(console: Console, choice: ProfileChoice) -> None:
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

"""Results of the commands that install, start, stop and change a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.console import colorize, escape
from llmstack.report.format import state_word

if TYPE_CHECKING:
    from llmstack.console import Console
    from llmstack.stack.install.install import InstallResult
    from llmstack.stack.install.profile_choice import ProfileChoice
    from llmstack.stack.install.promote import PromoteResult
    from llmstack.stack.lifecycle.reload import ReloadResult
    from llmstack.stack.lifecycle.start import StartResult
    from llmstack.stack.lifecycle.stop import StopResult
    from llmstack.stack.remote.thin_client import VerifyResult


def show_install(console: Console, result: InstallResult) -> None:
    """Show what `install` wrote, and the next command."""
    channel = result.channel
    models = "queued upgrades" if channel.kind == "next" else "the current models"
    target = f"the router at {escape(channel.url)}" if channel.url else models
    console.info(f"[bold]{escape(str(result.work_dir))}[/] is set up for {target}")
    if result.profile_choice is not None:
        _show_profile_choice(console, result.profile_choice)
    for path in result.written:
        console.info(f"  wrote {escape(str(path))}")
    for path in result.kept:
        console.info(f"  kept  {escape(str(path))} (yours)")
    for name, why in result.unavailable.items():
        console.warn(f"{name} cannot start yet: {why}")
    to_fetch = any("llmstack download" in why for why in result.unavailable.values())
    fetch = "`llmstack download`, then " if to_fetch else ""
    console.info(f"next: {fetch}`llmstack {'restart' if result.needs_restart else 'start'}`")


def _show_profile_choice(console: Console, choice: ProfileChoice) -> None:
    """Show which profile was chosen for this machine, and why."""
    if choice.fits:
        console.info(f"  profile {choice.profile}: {escape(choice.reason)}; choose another with --profile")
        return
    console.warn(
        f"no profile fits: {choice.reason}; wrote profile {choice.profile}",
        "its models can be loaded only one at a time, or not at all: choose smaller ones, lower `ctx_size`,"
        " or use hosted tiers",
    )


def show_start(console: Console, result: StartResult) -> None:
    """Show the router's address, the preloaded tier, and the tiers that cannot start."""
    state = "was running already" if result.was_running else f"is up after {result.seconds:.1f} s"
    channel = "" if str(result.channel) == "current" else f", channel {escape(str(result.channel))}"
    console.info(
        f"[bold green]llmstack[/] {state} at [bold]{escape(result.url)}[/] (pid {result.pid}{channel})"
    )
    if result.preloaded:
        console.info(f"  {escape(result.preloaded)} is {colorize(state_word(result.state))}")
        if result.detail:
            console.warn(result.detail)
    for name, why in result.unavailable.items():
        console.warn(f"{name} cannot start: {why}")
    if not result.was_running:
        console.info("next: `llmstack run opencode`, or any OpenAI client with model `auto`")


def show_verify(console: Console, result: VerifyResult) -> None:
    """Show that the router of another project responds, and its tiers."""
    tiers = escape(", ".join(result.tiers))
    console.info(f"the router at [bold]{escape(result.url)}[/] answers; its tiers: auto, {tiers}")
    console.info("next: `llmstack run opencode`, or any OpenAI client with model `auto`")


def show_refetch(console: Console, url: str) -> None:
    """Show that the files of a thin client were updated."""
    console.info(f"fetched again from {escape(url)}; wrote opencode.json")


def show_foreign_router(console: Console, url: str) -> None:
    """Show why `stop` does nothing in a thin client."""
    console.info(f"nothing to stop: the router at {escape(url)} is another project's")


def show_subshell_start(console: Console) -> None:
    """Show that a subshell opens."""
    console.info("this shell is wired up; `exit` leaves it, and the stack keeps running")
    console.info("  to wire up every terminal when it enters a project: `llmstack activate --help`")


def show_subshell_end(console: Console, *, is_running: bool) -> None:
    """Show whether the stack still runs after the subshell."""
    console.info(f"left the shell; the stack {'keeps running' if is_running else 'is not running any more'}")


def show_stop(console: Console, result: StopResult) -> None:
    """Show what was stopped."""
    if not result.was_running:
        console.info("nothing was running")
        return
    console.info("stopped" if not result.killed else "stopped; the router had to be killed")
    for name in result.leftovers:
        console.info(f"  {escape(name)} outlived its router and was stopped too")


def show_reload(console: Console, result: ReloadResult) -> None:
    """Show which tiers changed, which requests were cut off, and the tiers that cannot start."""
    console.info(f"reloaded; tiers that changed: {escape(', '.join(result.changed)) or 'none'}")
    for text in result.cut:
        console.warn(text)
    for name, why in result.unavailable.items():
        console.warn(f"{name} cannot start: {why}")


def show_promote(console: Console, result: PromoteResult) -> None:
    """Show the model of each tier, and the next command."""
    for name, (before, now) in result.tiers.items():
        console.info(f"{escape(name)}: {escape(now)} replaces {escape(before)}")
    console.info("next: `llmstack restart`" if result.running else "next: `llmstack start`")

"""`llmstack install`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from llmstack.errors import LlmstackError, UsageError

if TYPE_CHECKING:
    from llmstack.channel import Channel
    from llmstack.context import CliContext
    from llmstack.paths import Project


class InstallCommand(TyperCommand):
    """Takes `--external=URL` for `--external URL`: Typer has no option whose value may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        split = [arg.split("=", 1) if arg.startswith("--external=") else [arg] for arg in args]
        return super().parse_args(ctx, [piece for pieces in split for piece in pieces])


def install(
    ctx: typer.Context,
    current: Annotated[bool, typer.Option("--current", help="Pin channel `current`.")] = False,
    next_: Annotated[bool, typer.Option("--next", help="Pin channel `next`: run queued upgrades.")] = False,
    external: Annotated[
        bool, typer.Option("--external", help="Use the router of another project or host, at URL.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Start models.ini from this profile: 8gb, 16gb, 32gb, 64gb, default (the reference) or demo;"
            " without it, from the one that fits this machine.",
            metavar="NAME",
        ),
    ] = None,
    hosted: Annotated[
        bool,
        typer.Option("--hosted", help="Enable the hosted tier: short prompts leave the machine, at a cost."),
    ] = False,
    here: Annotated[
        bool, typer.Option("--here", help="Make the current directory a project, also inside another one.")
    ] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Trust files that are there already.")] = False,
    print_: Annotated[bool, typer.Option("--print", help="Print opencode.json, write nothing.")] = False,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            help="With --external: the router; else $LLMSTACK_REMOTE_URL, else http://127.0.0.1:10101.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Set a project up, or refresh its files.

    Writes models.ini from a profile (once, then it is yours), opencode.json and the pinned channel.

    Example: llmstack install --profile demo

    Example: llmstack install --external http://192.168.1.5:10101
    """
    from llmstack.console import escape
    from llmstack.report import lifecycle as report
    from llmstack.stack.install.install import InstallOptions
    from llmstack.stack.install.install import install as install_project

    app: CliContext = ctx.obj
    console = app.console
    channel = _channel(app, current=current, next_=next_, external_=external, url=url)
    project = _project(app, here=here)
    if print_:
        console.data(_printed(app, project, channel).rstrip())
        return
    options = InstallOptions(channel=channel, profile=profile, hosted=hosted, trust=trust)

    def consent(shown: list[str]) -> bool:
        console.say(
            f"{escape(str(project.state))} has files that llmstack did not write here. They would use:"
        )
        for line in shown or ["nothing that runs a program or redirects traffic"]:
            console.say(f"  {escape(line)}")
        return console.confirm("Trust them?")

    def ask_hosted(model: str) -> bool:
        console.say(
            f"LiteLLM is installed and the key for {escape(model)} is set. With it switched on, `auto` sends"
            " it short prompts: they leave this machine and cost money."
        )
        return console.confirm(f"Switch {model} on?")

    done = install_project(project, app.user, app.env, options, consent=consent, hosted=ask_hosted)
    report.installed(console, done)


def _channel(
    app: CliContext, *, current: bool, next_: bool, external_: bool, url: str | None
) -> Channel | None:
    """Return the channel that the options pin; None keeps what there is."""
    from llmstack.channel import CURRENT, DEFAULT_REMOTE, NEXT, external

    if current + next_ + external_ > 1:
        names = (("--current", current), ("--next", next_), ("--external", external_))
        given = [name for name, on in names if on]
        raise UsageError(f"{' and '.join(given)} exclude each other")
    if url is not None and not external_:
        raise UsageError("a URL goes with --external", hint=f"llmstack install --external {url}")
    if external_:
        return external(url or app.env.get("LLMSTACK_REMOTE_URL") or DEFAULT_REMOTE)
    return CURRENT if current else NEXT if next_ else None


def _printed(app: CliContext, project: Project, channel: Channel | None) -> str:
    from llmstack.stack.install.install import render_opencode, render_remote
    from llmstack.stack.remote.remote_router import fetch, remote_url
    from llmstack.stack.route import config_here

    url = channel.url if channel is not None else remote_url(project)
    if url is not None:
        return render_remote(project, fetch(url, app.env))
    there = project if project.models_ini.exists() else None  # one that is gone is written anew
    return render_opencode(project, config_here(there, app.user))


def _project(app: CliContext, *, here: bool) -> Project:
    """Return the project to install: the one here, else the current directory becomes one."""
    from llmstack.paths import Project

    found = None if here else app.find_project()
    if found is not None:
        return found
    if not app.cwd.is_dir():
        raise LlmstackError(f"{app.cwd} is no directory")
    return Project.at(app.cwd, app.env)

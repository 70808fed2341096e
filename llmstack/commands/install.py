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
    """Accepts `--external=URL` for `--external URL`, since Typer has no options with an optional value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split `--external=URL`, then parse as usual."""
        parts = [arg.split("=", 1) if arg.startswith("--external=") else [arg] for arg in args]
        return super().parse_args(ctx, [part for pair in parts for part in pair])


def install(
    ctx: typer.Context,
    current: Annotated[
        bool, typer.Option("--current", help="Run the current models (pins channel `current`).")
    ] = False,
    next_: Annotated[bool, typer.Option("--next", help="Run queued upgrades (pins channel `next`).")] = False,
    external: Annotated[
        bool, typer.Option("--external", help="Use the router of another project or host, at URL.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Create models.ini from 8gb, 16gb, 32gb, 64gb, default (the reference) or demo; default:"
            " the profile that fits this machine.",
            metavar="NAME",
        ),
    ] = None,
    hosted: Annotated[
        bool,
        typer.Option(
            "--hosted",
            help="Enable the hosted tier; it gets short prompts, which leave this machine and cost money.",
        ),
    ] = False,
    here: Annotated[
        bool, typer.Option("--here", help="Set up the current directory, even inside another project.")
    ] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Trust the files that exist already.")] = False,
    print_: Annotated[bool, typer.Option("--print", help="Print opencode.json and write nothing.")] = False,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            help="The router for --external; default: $LLMSTACK_REMOTE_URL, else http://127.0.0.1:10101.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Set up a project, or refresh its files.

    Creates models.ini from a profile, once: after that, the file is yours. Also writes opencode.json and pins
    the channel.

    Example: llmstack install --profile demo

    Example: llmstack install --external http://192.168.1.5:10101
    """
    from llmstack.console import escape
    from llmstack.report import lifecycle as report
    from llmstack.stack.install.install import InstallOptions
    from llmstack.stack.install.install import install as install_project

    cli: CliContext = ctx.obj
    console = cli.console
    channel = _requested_channel(cli, current=current, next_=next_, is_external=external, url=url)
    project = _target_project(cli, here=here)
    if print_:
        console.print(_render_opencode(cli, project, channel).rstrip())
        return
    options = InstallOptions(channel=channel, profile=profile, hosted=hosted, trust=trust)

    def confirm_trust(uses: list[str]) -> bool:
        console.info(
            f"{escape(str(project.state))} has files that llmstack did not write here. They would use:"
        )
        for line in uses or ["nothing that runs a program or redirects traffic"]:
            console.info(f"  {escape(line)}")
        return console.confirm("Trust them?")

    def confirm_hosted(model: str) -> bool:
        console.info(
            f"LiteLLM is installed and the key for {escape(model)} is set. If enabled, `auto` sends"
            " it short prompts, which leave this machine and cost money."
        )
        return console.confirm(f"Enable {model}?")

    result = install_project(
        project, cli.user, cli.env, options, consent=confirm_trust, confirm_hosted=confirm_hosted
    )
    report.show_install(console, result)


def _requested_channel(
    cli: CliContext, *, current: bool, next_: bool, is_external: bool, url: str | None
) -> Channel | None:
    """Return the channel that the options select; None keeps the present one."""
    from llmstack.channel import CURRENT, DEFAULT_REMOTE, NEXT, external

    if current + next_ + is_external > 1:
        options = (("--current", current), ("--next", next_), ("--external", is_external))
        names = [name for name, is_set in options if is_set]
        raise UsageError(f"{' and '.join(names)} exclude each other")
    if url is not None and not is_external:
        raise UsageError("a URL requires --external", hint=f"llmstack install --external {url}")
    if is_external:
        return external(url or cli.env.get("LLMSTACK_REMOTE_URL") or DEFAULT_REMOTE)
    return CURRENT if current else NEXT if next_ else None


def _render_opencode(cli: CliContext, project: Project, channel: Channel | None) -> str:
    from llmstack.config.trusted import open_trusted
    from llmstack.stack.install.project_files import render_opencode, render_remote
    from llmstack.stack.project import config_or_default
    from llmstack.stack.remote.remote_router import fetch_router

    trusted = open_trusted(project, cli.user) if project.state.is_dir() else None
    url = channel.url if channel is not None else trusted.remote_url if trusted is not None else None
    if url is not None:
        return render_remote(project, fetch_router(url, cli.env))
    # `install` would write a missing models.ini from a profile, so its absence is no error.
    existing = trusted if trusted is not None and trusted.declared is not None else None
    return render_opencode(project, config_or_default(existing, cli.user))


def _target_project(cli: CliContext, *, here: bool) -> Project:
    """Return the project around the working directory, else a new one in that directory."""
    from llmstack.paths import Project

    project = None if here else cli.find_project()
    if project is not None:
        return project
    if not cli.cwd.is_dir():
        raise LlmstackError(f"{cli.cwd} is not a directory")
    return Project.at(cli.cwd, cli.env)

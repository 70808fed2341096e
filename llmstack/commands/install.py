"""`llmstack install`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.errors import LlmstackError, UsageError

if TYPE_CHECKING:
    from llmstack.context import App
    from llmstack.paths import Project


def install(
    ctx: typer.Context,
    current: Annotated[bool, typer.Option("--current", help="Pin channel `current`.")] = False,
    next_: Annotated[bool, typer.Option("--next", help="Pin channel `next`: run queued upgrades.")] = False,
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
) -> None:
    """Set a project up, or refresh its files.

    Writes models.ini from a profile (once, then it is yours), opencode.json and the pinned channel.

    Example: llmstack install --profile demo
    """
    from rich.markup import escape

    from llmstack import report
    from llmstack.channel import CURRENT, NEXT
    from llmstack.stack.install import InstallOptions, render_opencode
    from llmstack.stack.install import install as install_project

    app: App = ctx.obj
    console = app.console
    if current and next_:
        raise UsageError("--current and --next exclude each other")
    project = _project(app, here=here)
    if print_:
        from llmstack.stack.routing import config_here

        console.data(render_opencode(project, config_here(project, app.user)).rstrip())
        return
    options = InstallOptions(
        channel=CURRENT if current else NEXT if next_ else None, profile=profile, hosted=hosted, trust=trust
    )

    def consent(shown: list[str]) -> bool:
        console.say(f"{project.state} has files that llmstack did not write here. They would use:")
        for line in shown or ["nothing that runs a program or redirects traffic"]:
            console.say(f"  {escape(line)}")
        return console.confirm("Trust them?")

    report.installed(console, install_project(project, app.user, app.env, options, consent=consent))


def _project(app: App, *, here: bool) -> Project:
    """Return the project to install: the one here, else the current directory becomes one."""
    from llmstack.paths import Project

    found = None if here else app.find_project()
    if found is not None:
        return found
    if not app.cwd.is_dir():
        raise LlmstackError(f"{app.cwd} is no directory")
    return Project.at(app.cwd, app.env)

"""`llmstack trust`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from llmstack.console import Console
    from llmstack.context import CliContext
    from llmstack.paths import Project


def trust(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Trust without asking.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Stop trusting this project.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the trusted projects.")] = False,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="The project; default: the current one.")
    ] = None,
) -> None:
    """Allow a project to run programs on this machine.

    First shows what its files would run and where they would send traffic.

    Example: llmstack trust --list
    """
    from llmstack.console import escape
    from llmstack.paths import Project
    from llmstack.trust import store as trust_store

    cli: CliContext = ctx.obj
    console, trust_file = cli.console, cli.user.trusted_projects
    if list_:
        _list_projects(cli)
        return
    project = Project.at(path.expanduser(), cli.env) if path is not None else cli.require_project()
    if revoke:
        was_trusted = trust_store.revoke(project.work_dir, trust_file)
        console.info(
            f"{escape(str(project.work_dir))} {'is no longer trusted' if was_trusted else 'was not trusted'}"
        )
        return
    _grant(console, project, trust_file, yes=yes)


def _grant(console: Console, project: Project, trust_file: Path, *, yes: bool) -> None:
    from llmstack.console import escape
    from llmstack.trust import store as trust_store
    from llmstack.trust.disclosure import describe
    from llmstack.trust.fingerprint import read_files

    if not project.state.is_dir():
        raise LlmstackError(f"{project.work_dir} has no .llmstack/", hint="install it: `llmstack install`")
    trust_store.refuse_unsafe_dir(project)
    files = read_files(project)
    console.info(f"{escape(str(project.state))} would use:")
    for line in describe(files) or ["nothing that runs a program or redirects traffic"]:
        console.info(f"  {escape(line)}")
    if not yes and not console.confirm("Trust it?"):
        raise LlmstackError("not trusted", hint="answer y, or use --yes after reading the above")
    trust_store.grant(project, trust_file, expected=files.digests())
    console.info(f"{escape(str(project.work_dir))} is trusted")


def _list_projects(cli: CliContext) -> None:
    from llmstack.console import colorize, escape
    from llmstack.trust import store as trust_store

    rows = [
        (
            escape(record.path),
            colorize(str(trust.verdict) if trust is not None else "gone"),
            f"{record.trusted_at:%Y-%m-%d %H:%M}",
        )
        for record, trust in trust_store.list_trusted(cli.user.trusted_projects)
    ]
    cli.console.table(("project", "state", "since"), rows)

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
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Trust this project no longer.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the trusted projects.")] = False,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="The project; the one here without it.")
    ] = None,
) -> None:
    """Trust this project to name programs to run.

    Shows first what its files would run, and where they would send traffic.

    Example: llmstack trust --list
    """
    from llmstack.console import escape
    from llmstack.paths import Project
    from llmstack.trust import store as trust_store

    app: CliContext = ctx.obj
    console, store = app.console, app.user.trusted_projects
    if list_:
        _list(app)
        return
    project = Project.at(path.expanduser(), app.env) if path is not None else app.project()
    if revoke:
        known = trust_store.revoke(project.work_dir, store)
        console.say(
            f"{escape(str(project.work_dir))} {'is not trusted any more' if known else 'was not trusted'}"
        )
        return
    _grant(console, project, store, yes=yes)


def _grant(console: Console, project: Project, store: Path, *, yes: bool) -> None:
    from llmstack.console import escape
    from llmstack.trust import store as trust_store
    from llmstack.trust.disclosure import programs
    from llmstack.trust.fingerprint import fingerprint

    if not project.state.is_dir():
        raise LlmstackError(f"{project.work_dir} has no .llmstack/", hint="install it: `llmstack install`")
    trust_store.refuse_unsafe_dir(project)
    seen = fingerprint(project)
    console.say(f"{escape(str(project.state))} would use:")
    for line in programs(project) or ["nothing that runs a program or redirects traffic"]:
        console.say(f"  {escape(line)}")
    if not yes and not console.confirm("Trust it?"):
        raise LlmstackError("not trusted", hint="answer y, or give --yes after reading the above")
    trust_store.grant(project, store, seen=seen)
    console.say(f"{escape(str(project.work_dir))} is trusted")


def _list(app: CliContext) -> None:
    from llmstack.console import escape, styled
    from llmstack.trust import store as trust_store

    rows = [
        (
            escape(record.path),
            styled(str(verdict.verdict) if verdict is not None else "gone"),
            f"{record.trusted_at:%Y-%m-%d %H:%M}",
        )
        for record, verdict in trust_store.entries(app.user.trusted_projects)
    ]
    app.console.table(("project", "state", "since"), rows)

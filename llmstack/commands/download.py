"""`llmstack download`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext


def download(
    ctx: typer.Context,
    tiers: Annotated[
        list[str] | None,
        typer.Argument(metavar="TIER", help="Tiers or aliases; all without any.", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Stay, and show the progress.")] = False,
    current: Annotated[bool, typer.Option("--current", help="Only what runs now.")] = False,
    next_: Annotated[bool, typer.Option("--next", help="Only queued upgrades.")] = False,
) -> None:
    """Fetch the GGUF files that models.ini names.

    Current ones and queued upgrades, into the hub's cache that other tools share. In the background unless
    told otherwise; an interrupted download goes on where it stopped, and what is there is not fetched again.

    Example: llmstack download code-fast --wait
    """
    from llmstack.report import downloads as report
    from llmstack.stack.download import download as downloads
    from llmstack.stack.download.plan import LABELS, declared, plan
    from llmstack.stack.download.state import DownloadDir

    app: CliContext = ctx.obj
    console, project = app.console, app.find_project()
    config, place = declared(project, app.user), DownloadDir.of(project, app.user)
    wanted = {"current": current, "next": next_}
    labels = [label for label in LABELS if wanted[label] or not any(wanted.values())]
    found = plan(config, app.env, tiers or (), labels)
    report.planned(console, found)
    if not found.items:
        return
    if project is None and not tiers and not report.wants_all(console, found):
        return
    if not wait:
        report.started(console, found, downloads.start(found, place, app.env), place)
        return
    with console.bars() as show:
        done = downloads.fetch_here(
            lambda: plan(config, app.env, tiers or (), labels),
            place,
            app.env,
            show=report.bars(show),
            tell=console.say,
        )
    if done is None:
        console.say("every file is here")
        return
    report.ended(console, done)
    raise typer.Exit(1 if done.failed else 0)

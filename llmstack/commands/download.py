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
        typer.Argument(metavar="TIER", help="Tiers or aliases; default: all tiers.", show_default=False),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for the end, and show the progress.")
    ] = False,
    current: Annotated[bool, typer.Option("--current", help="Only the current models.")] = False,
    next_: Annotated[bool, typer.Option("--next", help="Only queued upgrades.")] = False,
) -> None:
    """Fetch the GGUF files that models.ini names.

    Fetches current models and queued upgrades in the background, into the Hugging Face cache, which other
    tools share. Resumes interrupted downloads, and skips files that are on disk.

    Example: llmstack download code-fast --wait
    """
    from llmstack.report import downloads as report
    from llmstack.stack.download import download as downloads
    from llmstack.stack.download.plan import LABELS, plan_downloads
    from llmstack.stack.download.state import DownloadDir
    from llmstack.stack.project import declared_or_default

    cli: CliContext = ctx.obj
    console, trusted = cli.console, cli.find_trusted()
    project = trusted.project if trusted is not None else None
    config, directory = declared_or_default(trusted, cli.user), DownloadDir.for_project(project, cli.user)
    selected = {"current": current, "next": next_}
    labels = [label for label in LABELS if selected[label] or not any(selected.values())]
    plan = plan_downloads(config, cli.env, tiers or (), labels)
    report.show_plan(console, plan)
    if not plan.items:
        return
    if project is None and not tiers and not report.confirm_default_profile(console, plan):
        return
    if not wait:
        run = downloads.start_in_background(plan, directory, cli.env)
        report.show_background(console, plan, run, directory)
        return
    with console.bars() as show:
        result = downloads.download_and_wait(
            lambda: plan_downloads(config, cli.env, tiers or (), labels),
            directory,
            cli.env,
            show=report.as_bars(show),
            notify=console.info,
        )
    if result is None:
        console.info("every file is on disk")
        return
    report.show_result(console, result)
    raise typer.Exit(1 if result.failed_items else 0)

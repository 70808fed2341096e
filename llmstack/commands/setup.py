"""`llmstack setup`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.context import CliContext
    from llmstack.stack.install.setup import Step


def setup(
    ctx: typer.Context,
    skip_download: Annotated[bool, typer.Option("--skip-download", help="Fetch no models.")] = False,
    skip_wait: Annotated[
        bool, typer.Option("--skip-wait", help="Fetch models in the background and go on.")
    ] = False,
) -> None:
    """Get this machine ready, step by step.

    Looks at hardware and tools, fetches the models that models.ini names (or the default profile) and
    llama-swap, and says how to go on. What is there already is left alone, so run it as often as you like.

    Example: llmstack setup --skip-download
    """
    from llmstack.report import downloads as report
    from llmstack.stack.install import setup as steps

    app: CliContext = ctx.obj
    console, project = app.console, app.find_project()
    steps.to_fetch(
        project, app.user, app.env
    )  # what is wrong with models.ini is said before anything is done
    done = [report.step(console, steps.machine()), report.step(console, steps.engine(app.env))]
    done.append(report.step(console, _models(app, skip=skip_download, wait=not skip_wait)))
    console.say(f"  {steps.SWAPPERS}")
    with console.progress() as tell:
        swapper = steps.llama_swap(project, app.user, app.env, tell=tell)
    done.append(report.step(console, swapper))
    done.append(report.step(console, steps.hook(app.env)))
    done.append(report.step(console, steps.opencode(app.env)))
    report.set_up(console, done)
    raise typer.Exit(1 if any(step.state == "failed" for step in done) else 0)


def _models(app: CliContext, *, skip: bool, wait: bool) -> Step:
    from llmstack.report import downloads as report
    from llmstack.stack.install import setup as steps

    console, project = app.console, app.find_project()
    found = steps.to_fetch(project, app.user, app.env)
    about = f"{len(found.items)} files to fetch" + (f", about {found.size_gb:g} GB" if found.size_gb else "")
    if skip and found.items:
        return steps.Step("models", "skipped", about, "llmstack download")
    if found.items and console.interactive and not console.confirm(f"{about}. Begin?"):
        return steps.Step("models", "skipped", "not now", "llmstack download TIER fetches the ones you want")
    if not found.items or not wait:
        return steps.models(project, app.user, app.env, wait=wait, show=lambda _: None, tell=console.say)
    with console.bars() as show:
        return steps.models(project, app.user, app.env, wait=True, show=report.bars(show), tell=console.say)

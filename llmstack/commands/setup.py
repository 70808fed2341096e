"""`llmstack setup`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmstack.config import StackConfig
    from llmstack.config.trusted import TrustedProject
    from llmstack.context import CliContext
    from llmstack.stack.install.setup import Step


def setup(
    ctx: typer.Context,
    skip_download: Annotated[bool, typer.Option("--skip-download", help="Do not fetch models.")] = False,
    skip_wait: Annotated[bool, typer.Option("--skip-wait", help="Fetch models in the background.")] = False,
) -> None:
    """Get this machine ready, step by step.

    Checks hardware and tools, fetches llama-swap and the models that models.ini (or the default profile)
    names, and shows the next commands. Skips whatever is done already, so it is safe to run again.

    Example: llmstack setup --skip-download
    """
    from llmstack.report import downloads as report
    from llmstack.stack.install import setup as steps
    from llmstack.stack.project import declared_or_default

    cli: CliContext = ctx.obj
    console, trusted = cli.console, cli.find_trusted()
    config = declared_or_default(trusted, cli.user)  # first, so that a mistake in models.ini stops it
    results = [
        report.show_step(console, steps.check_machine()),
        report.show_step(console, steps.check_engine(cli.env)),
    ]
    results.append(
        report.show_step(console, _fetch_models(cli, trusted, config, skip=skip_download, wait=not skip_wait))
    )
    console.info(f"  {steps.SWAPPER_NOTE}")
    with console.progress() as notify:
        swapper = steps.ensure_llama_swap(config, trusted, cli.user, cli.env, notify=notify)
    results.append(report.show_step(console, swapper))
    results.append(report.show_step(console, steps.check_hook(cli.env)))
    results.append(report.show_step(console, steps.check_opencode(cli.env)))
    report.show_setup(console, results)
    raise typer.Exit(1 if any(step.state == "failed" for step in results) else 0)


def _fetch_models(
    cli: CliContext, trusted: TrustedProject | None, config: StackConfig, *, skip: bool, wait: bool
) -> Step:
    from llmstack.report import downloads as report
    from llmstack.stack.download.plan import plan_downloads
    from llmstack.stack.install import setup as steps

    console = cli.console
    plan = plan_downloads(config, cli.env)
    summary = f"{len(plan.items)} files to fetch" + (f", about {plan.size_gb:g} GB" if plan.size_gb else "")
    if skip and plan.items:
        return steps.Step("models", "skipped", summary, "llmstack download")
    if plan.items and console.is_interactive and not console.confirm(f"{summary}. Fetch them now?"):
        return steps.Step("models", "skipped", "not now", "llmstack download TIER fetches only what you want")
    if not plan.items or not wait:
        return steps.fetch_models(
            config, trusted, cli.user, cli.env, wait=wait, show=lambda _: None, notify=console.info
        )
    with console.bars() as show:
        return steps.fetch_models(
            config, trusted, cli.user, cli.env, wait=True, show=report.as_bars(show), notify=console.info
        )

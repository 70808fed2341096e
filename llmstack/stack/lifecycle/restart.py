"""Restart a stack, after verifying that it can start again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.stack.lifecycle.start import StartResult, refuse_taken_port, start_stack
from llmstack.stack.lifecycle.start_plan import StartOptions, verify_can_start
from llmstack.stack.lifecycle.stop import stop_stack
from llmstack.stack.project import running_router

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.config.trusted import TrustedProject


def restart_stack(
    trusted: TrustedProject,
    env: Mapping[str, str],
    options: StartOptions,
    *,
    notify: Callable[[str], None] = lambda _: None,
) -> StartResult:
    """Stop the stack and start it again; if it could not start or has no free port, leave it running.

    Arguments and errors are those of `start_stack`.
    """
    plan = verify_can_start(trusted, env, options)
    project = trusted.project
    running = running_router(project)
    if running is None or running.port != (options.port or plan.config.settings.router_port):
        refuse_taken_port(project, plan.config, options)
    if running is not None:
        notify("stopping")
    stop_stack(project)
    return start_stack(trusted, env, options, plan=plan, notify=notify)

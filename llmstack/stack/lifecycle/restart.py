"""Stop and start, checking first that the start can succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.stack.lifecycle.start import Started, StartOptions, checked, refuse_taken_port, up
from llmstack.stack.lifecycle.stop import down
from llmstack.stack.project import running_router

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmstack.paths import Project


def restart(
    project: Project,
    env: Mapping[str, str],
    store: Path,
    options: StartOptions,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> Started:
    """Stop the stack and start it again; what cannot start, or has no port to listen on, leaves it running.

    Arguments and errors as for `up`.
    """
    config, _, _ = checked(project, env, store, options)
    running = running_router(project)
    if running is None or running.port != (options.port or config.settings.router_port):
        refuse_taken_port(project, config, env, options)
    if running is not None:
        tell("stopping")
    down(project)
    return up(project, env, store, options, tell=tell)

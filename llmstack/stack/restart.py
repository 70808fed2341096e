"""Stop and start, checking first that the start can succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.stack.start import Started, StartOptions, checked, up
from llmstack.stack.stop import down

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
    """Stop the stack and start it again; a configuration that cannot start leaves it running.

    Arguments and errors as for `up`.
    """
    checked(project, env, store, options)
    tell("stopping")
    down(project)
    return up(project, env, store, options, tell=tell)

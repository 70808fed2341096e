"""Installing llama-swap for the user's projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.serving.llama_swap.release import InstalledRelease, Releases
from llmstack.stack.project import refuse_thin_client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.paths import Project, UserDirs


def install(
    project: Project | None,
    user: UserDirs,
    env: Mapping[str, str],
    *,
    force: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> InstalledRelease:
    """Install it unless it is there.

    Raises:
        LlmstackError: it cannot be had, or the project is a thin client, which runs no models.
    """
    if project is not None:
        refuse_thin_client(project)
    return Releases(env).install(user.bin, force=force, tell=tell)

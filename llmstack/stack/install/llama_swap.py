"""Installing llama-swap for all projects of the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.serving.llama_swap.release import InstalledRelease, ReleaseInstaller
from llmstack.stack.project import refuse_thin_client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import UserDirs


def install_llama_swap(
    trusted: TrustedProject | None,
    user: UserDirs,
    env: Mapping[str, str],
    *,
    force: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> InstalledRelease:
    """Install llama-swap unless it is installed; `force` installs it in any case.

    Raises:
        LlmstackError: the installation failed, or the project is a thin client, which runs no models.
    """
    if trusted is not None:
        refuse_thin_client(trusted)
    return ReleaseInstaller(env).install(user.bin, force=force, notify=notify)

"""What every command gets from the entry point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.console import Console
    from llmstack.paths import Project, UserDirs


@dataclass(slots=True)
class CliContext:
    """What every command gets: environment and working directory, read once."""

    env: Mapping[str, str]

    @property
    def console(self) -> Console:
        """Where to print."""
        from llmstack.console import Console

        return Console()

    @property
    def user(self) -> UserDirs:
        """The user's own directories."""
        from llmstack.paths import UserDirs

        return UserDirs.from_env(self.env)

    @property
    def cwd(self) -> Path:
        """The working directory.

        Raises:
            LlmstackError: it was deleted.
        """
        try:
            return Path.cwd()
        except OSError as error:
            raise LlmstackError("the current directory is gone", hint="cd to another one") from error

    def find_project(self) -> Project | None:
        """Return the project here, if there is one."""
        from llmstack.paths import find_project

        return find_project(self.env, self.cwd)

    def project(self) -> Project:
        """Return the project here.

        Raises:
            LlmstackError: there is none.
        """
        project = self.find_project()
        if project is None:
            raise LlmstackError(
                f"no llmstack project in {self.cwd} or above", hint="make one: `llmstack install`"
            )
        return project

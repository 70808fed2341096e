"""The context that the entry point passes to every command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.trusted import TrustedProject
    from llmstack.console import Console
    from llmstack.paths import Project, UserDirs


@dataclass(slots=True)
class CliContext:
    """The environment of a command, and what follows from it: console, directories, project."""

    env: Mapping[str, str]

    @property
    def console(self) -> Console:
        """The console on stdout and stderr."""
        from llmstack.console import Console

        return Console()

    @property
    def user(self) -> UserDirs:
        """The user's config, cache and data directories."""
        from llmstack.paths import UserDirs

        return UserDirs.from_env(self.env)

    @property
    def cwd(self) -> Path:
        """The working directory.

        Raises:
            LlmstackError: it no longer exists.
        """
        try:
            return Path.cwd()
        except OSError as error:
            raise LlmstackError("the current directory no longer exists", hint="cd to another one") from error

    def find_project(self) -> Project | None:
        """Return the project of the working directory, None if there is none."""
        from llmstack.paths import find_project

        return find_project(self.env, self.cwd)

    def require_project(self) -> Project:
        """Return the project of the working directory.

        Raises:
            LlmstackError: there is none.
        """
        project = self.find_project()
        if project is None:
            raise LlmstackError(
                f"no llmstack project in {self.cwd} or above", hint="create one with `llmstack install`"
            )
        return project

    def find_trusted(self) -> TrustedProject | None:
        """Return the project of the working directory with its verified files; None if there is none.

        Raises:
            LlmstackError: the project is not trusted as it is now, or one of its files has mistakes.
        """
        from llmstack.config.trusted import open_trusted

        project = self.find_project()
        return open_trusted(project, self.user) if project is not None else None

    def require_trusted(self) -> TrustedProject:
        """Return the project of the working directory with its verified files.

        Raises:
            LlmstackError: as for `require_project` and `find_trusted`.
        """
        from llmstack.config.trusted import open_trusted

        return open_trusted(self.require_project(), self.user)

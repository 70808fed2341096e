"""What bash and zsh have in common."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from llmstack.shell.base import fill
from llmstack.shell.environment import NAMES

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.shell.base import HookValues


class Posix:
    """Values and lines as POSIX shells write them.

    Attributes:
        scripts: what the hook is made of.
    """

    scripts: tuple[str, ...] = ()

    def quote(self, text: str) -> str:
        """Return source that means exactly this text."""
        return shlex.quote(text)

    def export(self, name: str, value: str) -> str:
        """Return the line that exports a variable."""
        return f"export {name}={self.quote(value)}"

    def unset(self, name: str) -> str:
        """Return the line that removes a variable."""
        return f"unset {name}"

    def source(self, path: Path) -> str:
        """Return the line that reads a file."""
        name = self.quote(str(path))
        return f"if [ -r {name} ]; then . {name}; fi"

    def hook(self, values: HookValues) -> str:
        """Return the text of the hook."""
        return fill(self.quote, self.scripts, values, names=" ".join(NAMES))

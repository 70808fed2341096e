"""What bash and zsh have in common."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from llmstack.shell.base import render_hook
from llmstack.shell.environment import EXPORTED_NAMES

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.shell.base import HookValues


class PosixShell:
    """Syntax of POSIX shells.

    Attributes:
        scripts: names of the files in `scripts/` that make up the hook.
    """

    scripts: tuple[str, ...] = ()

    def quote(self, text: str) -> str:
        """Return source code for a literal string."""
        return shlex.quote(text)

    def export_line(self, name: str, value: str) -> str:
        """Return the line that exports a variable."""
        return f"export {name}={self.quote(value)}"

    def unset_line(self, name: str) -> str:
        """Return the line that removes a variable."""
        return f"unset {name}"

    def source_line(self, path: Path) -> str:
        """Return the line that runs a script, if the file exists."""
        name = self.quote(str(path))
        return f"if [ -r {name} ]; then . {name}; fi"

    def hook_script(self, values: HookValues) -> str:
        """Return the text of the hook."""
        return render_hook(self.quote, self.scripts, values, names=" ".join(EXPORTED_NAMES))

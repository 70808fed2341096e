"""fish 3.6 and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.shell.base import Subshell, export_lines, read_script, render_hook
from llmstack.shell.environment import EXPORTED_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.shell.base import Activation, HookValues

INIT = """if not functions -q __llmstack_check # skipped if the hook is loaded: it does all this
{prompt}
function __llmstack_check
end
{exports}
__llmstack_show {label} {color}
end
"""


class Fish:
    """The friendly interactive shell."""

    name = "fish"
    hook_name = ".fish_llmstack_hook"
    rc_file = "~/.config/fish/config.fish"
    rc_line = "llmstack activate fish | source"

    def quote(self, text: str) -> str:
        """Return source code for a literal string: single quotes, with backslashes and quotes escaped."""
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"

    def export_line(self, name: str, value: str) -> str:
        """Return the line that exports a variable."""
        return f"set -gx {name} {self.quote(value)}"

    def unset_line(self, name: str) -> str:
        """Return the line that removes a variable."""
        return f"set -eg {name}"

    def source_line(self, path: Path) -> str:
        """Return the line that runs a script, if the file exists."""
        name = self.quote(str(path))
        return f"if test -r {name}; source {name}; end"

    def hook_script(self, values: HookValues) -> str:
        """Return the text of the hook."""
        return render_hook(self.quote, ("hook.fish", "prompt.fish"), values, names=" ".join(EXPORTED_NAMES))

    def subshell(self, directory: Path, env: Mapping[str, str], activation: Activation) -> Subshell:
        """Return how to run it with a command that fish runs after the user's own configuration."""
        del directory, env
        text = INIT.format(
            prompt=read_script("prompt.fish"),
            exports=export_lines(self, activation),
            label=self.quote(activation.label),
            color=self.quote(activation.color),
        )
        return Subshell(("--interactive", "--init-command", text), {}, {})

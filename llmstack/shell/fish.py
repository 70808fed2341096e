"""fish, 3.6 and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.shell.base import Subshell, exports, fill, script
from llmstack.shell.environment import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.shell.base import HookValues, Look

INIT = """if not functions -q __llmstack_check # the hook does it all
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
    line_for_rc = "llmstack activate fish | source"

    def quote(self, text: str) -> str:
        """Return source that means exactly this text: in single quotes, backslash and quote are escaped."""
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"

    def export(self, name: str, value: str) -> str:
        """Return the line that exports a variable."""
        return f"set -gx {name} {self.quote(value)}"

    def unset(self, name: str) -> str:
        """Return the line that removes a variable."""
        return f"set -eg {name}"

    def source(self, path: Path) -> str:
        """Return the line that reads a file."""
        name = self.quote(str(path))
        return f"if test -r {name}; source {name}; end"

    def hook(self, values: HookValues) -> str:
        """Return the text of the hook."""
        return fill(self.quote, ("hook.fish", "prompt.fish"), values, names=" ".join(NAMES))

    def subshell(self, state: Path, env: Mapping[str, str], look: Look) -> Subshell:
        """Return how to run it with a command that follows the user's own configuration."""
        del state, env
        text = INIT.format(
            prompt=script("prompt.fish"),
            exports=exports(self, look),
            label=self.quote(look.label),
            color=self.quote(look.color),
        )
        return Subshell(("--interactive", "--init-command", text), {}, {})

"""bash, 3.2 (as macOS has it) and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.shell.base import Subshell, exports, script
from llmstack.shell.posix import Posix

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.shell.base import Look

RC = """# Written by each `llmstack start` that opens a subshell. Your own file first.
if [[ -f ~/.bashrc ]]; then . ~/.bashrc; fi
if ! declare -F _llmstack_check >/dev/null; then # the hook does it all
{prompt}
_llmstack_check() {{ :; }}
{exports}
_llmstack_show {label} {color}
_llmstack_register
fi
"""


class Bash(Posix):
    """The GNU shell."""

    name = "bash"
    hook_name = ".bash_llmstack_hook"
    rc_file = "~/.bashrc"
    line_for_rc = 'eval "$(llmstack activate bash)"'
    scripts = ("hook.bash", "prompt.bash", "hook.posix")

    def subshell(self, state: Path, env: Mapping[str, str], look: Look) -> Subshell:
        """Return how to run it with our rc file in place of the user's, which it reads first."""
        del env
        rc = state / "llmstack.bashrc"
        text = RC.format(
            prompt=script("prompt.bash"),
            exports=exports(self, look),
            label=self.quote(look.label),
            color=self.quote(look.color),
        )
        return Subshell(("--rcfile", str(rc), "-i"), {}, {rc: text})

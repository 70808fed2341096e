"""bash 3.2 (which macOS ships) and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.shell.base import Subshell, export_lines, read_script
from llmstack.shell.posix import PosixShell

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.shell.base import Activation

RC = """# `llmstack start` rewrites this file whenever it opens a subshell. The user's own file comes first.
if [[ -f ~/.bashrc ]]; then . ~/.bashrc; fi
if ! declare -F _llmstack_check >/dev/null; then # skipped if the hook is loaded: it does all this
{prompt}
_llmstack_check() {{ :; }}
{exports}
_llmstack_show {label} {color}
_llmstack_register
fi
"""


class Bash(PosixShell):
    """The GNU shell."""

    name = "bash"
    hook_name = ".bash_llmstack_hook"
    rc_file = "~/.bashrc"
    rc_line = 'eval "$(llmstack activate bash)"'
    scripts = ("hook.bash", "prompt.bash", "hook.posix")

    def subshell(self, directory: Path, env: Mapping[str, str], activation: Activation) -> Subshell:
        """Return how to run it with our rc file, which reads the user's own first."""
        del env
        rc = directory / "llmstack.bashrc"
        text = RC.format(
            prompt=read_script("prompt.bash"),
            exports=export_lines(self, activation),
            label=self.quote(activation.label),
            color=self.quote(activation.color),
        )
        return Subshell(("--rcfile", str(rc), "-i"), {}, {rc: text})

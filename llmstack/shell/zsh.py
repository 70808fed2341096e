"""zsh, 5.3 and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.shell.base import Subshell, exports, script
from llmstack.shell.posix import Posix

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.shell.base import Look

ENV = """# Written by each `llmstack start` that opens a subshell. Your own file first.
{before}
if [[ -f ${{ZDOTDIR:-$HOME}}/.zshenv ]]; then . ${{ZDOTDIR:-$HOME}}/.zshenv; fi
typeset -g _llmstack_zdotdir=${{ZDOTDIR-}}
ZDOTDIR={ours}
"""
RC = """# Written by each `llmstack start` that opens a subshell. Your own file first.
if [[ -n $_llmstack_zdotdir ]]; then ZDOTDIR=$_llmstack_zdotdir; else unset ZDOTDIR; fi
# macOS has put the history beside what it took for your files.
if [[ ${{HISTFILE-}} == {ours}/* ]]; then HISTFILE=${{ZDOTDIR:-$HOME}}/${{HISTFILE:t}}; fi
if [[ -f ${{ZDOTDIR:-$HOME}}/.zshrc ]]; then . ${{ZDOTDIR:-$HOME}}/.zshrc; fi
if (( ! $+functions[_llmstack_check] )); then # the hook does it all
{prompt}
_llmstack_check() {{ : }}
{exports}
_llmstack_show {label} {color}
_llmstack_register
fi
"""


class Zsh(Posix):
    """The Z shell."""

    name = "zsh"
    hook_name = ".zsh_llmstack_hook"
    rc_file = "~/.zshrc"
    line_for_rc = 'eval "$(llmstack activate zsh)"'
    scripts = ("hook.zsh", "prompt.zsh", "hook.posix")

    def subshell(self, state: Path, env: Mapping[str, str], look: Look) -> Subshell:
        """Return how to run it with our directory in place of the user's, whose files it reads first."""
        ours = state / "zdotdir"
        user = env.get("ZDOTDIR")
        files = {
            ours / ".zshenv": ENV.format(
                before=self.export("ZDOTDIR", user) if user else self.unset("ZDOTDIR"),
                ours=self.quote(str(ours)),
            ),
            ours / ".zshrc": RC.format(
                ours=self.quote(str(ours)),
                prompt=script("prompt.zsh"),
                exports=exports(self, look),
                label=self.quote(look.label),
                color=self.quote(look.color),
            ),
        }
        return Subshell(("-i",), {"ZDOTDIR": str(ours)}, files)

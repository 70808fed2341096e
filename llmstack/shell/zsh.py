"""zsh 5.3 and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.shell.base import Subshell, export_lines, read_script
from llmstack.shell.posix import PosixShell

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.shell.base import Activation

ENV = """# `llmstack start` rewrites this file whenever it opens a subshell. The user's own file comes first.
{restore_zdotdir}
if [[ -f ${{ZDOTDIR:-$HOME}}/.zshenv ]]; then . ${{ZDOTDIR:-$HOME}}/.zshenv; fi
typeset -g _llmstack_zdotdir=${{ZDOTDIR-}}
ZDOTDIR={zdotdir}
"""
RC = """# `llmstack start` rewrites this file whenever it opens a subshell. The user's own file comes first.
if [[ -n $_llmstack_zdotdir ]]; then ZDOTDIR=$_llmstack_zdotdir; else unset ZDOTDIR; fi
# On macOS, /etc/zshrc has put the history into ZDOTDIR, which was ours at that time.
if [[ ${{HISTFILE-}} == {zdotdir}/* ]]; then HISTFILE=${{ZDOTDIR:-$HOME}}/${{HISTFILE:t}}; fi
if [[ -f ${{ZDOTDIR:-$HOME}}/.zshrc ]]; then . ${{ZDOTDIR:-$HOME}}/.zshrc; fi
if (( ! $+functions[_llmstack_check] )); then # skipped if the hook is loaded: it does all this
{prompt}
_llmstack_check() {{ : }}
{exports}
_llmstack_show {label} {color}
_llmstack_register
fi
"""


class Zsh(PosixShell):
    """The Z shell."""

    name = "zsh"
    hook_name = ".zsh_llmstack_hook"
    rc_file = "~/.zshrc"
    rc_line = 'eval "$(llmstack activate zsh)"'
    scripts = ("hook.zsh", "prompt.zsh", "hook.posix")

    def subshell(self, directory: Path, env: Mapping[str, str], activation: Activation) -> Subshell:
        """Return how to run it with a ZDOTDIR of our own, whose files read the user's own first."""
        zdotdir = directory / "zdotdir"
        user_zdotdir = env.get("ZDOTDIR")
        files = {
            zdotdir / ".zshenv": ENV.format(
                restore_zdotdir=(
                    self.export_line("ZDOTDIR", user_zdotdir) if user_zdotdir else self.unset_line("ZDOTDIR")
                ),
                zdotdir=self.quote(str(zdotdir)),
            ),
            zdotdir / ".zshrc": RC.format(
                zdotdir=self.quote(str(zdotdir)),
                prompt=read_script("prompt.zsh"),
                exports=export_lines(self, activation),
                label=self.quote(activation.label),
                color=self.quote(activation.color),
            ),
        }
        return Subshell(("-i",), {"ZDOTDIR": str(zdotdir)}, files)

"""PowerShell 5.1 and 7."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from llmstack.shell.base import Subshell, export_lines, read_script, render_hook
from llmstack.shell.environment import EXPORTED_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.shell.base import Activation, HookValues

# PowerShell treats typographic quotes like plain ones.
_QUOTE = re.compile("['\u2018\u2019\u201a\u201b]")
INIT = """# Skipped if the hook is loaded: it does all this.
if (-not (Test-Path -Path Function:__LlmstackCheck)) {{
{prompt}
function global:__LlmstackCheck {{ }}
{exports}
__LlmstackShow {label} {color}
}}
"""


class PowerShell:
    """Windows PowerShell and its successor on every system."""

    name = "powershell"
    hook_name = ".powershell_llmstack_hook.ps1"
    rc_file = "$PROFILE"
    rc_line = "llmstack activate powershell | Out-String | Invoke-Expression"

    def quote(self, text: str) -> str:
        """Return source code for a literal string: single quotes, with quotes inside doubled."""
        doubled = _QUOTE.sub(lambda match: match[0] * 2, text)
        return f"'{doubled}'"

    def export_line(self, name: str, value: str) -> str:
        """Return the line that exports a variable."""
        return f"$env:{name} = {self.quote(value)}"

    def unset_line(self, name: str) -> str:
        """Return the line that removes a variable."""
        return f"[Environment]::SetEnvironmentVariable('{name}', [NullString]::Value)"

    def source_line(self, path: Path) -> str:
        """Return the line that runs a script, if the file exists."""
        name = self.quote(str(path))
        return f"if (Test-Path -LiteralPath {name}) {{ . {name} }}"

    def hook_script(self, values: HookValues) -> str:
        """Return the text of the hook."""
        # Without a byte order mark, Windows PowerShell reads the file in the local code page.
        return "\ufeff" + render_hook(
            self.quote,
            ("hook.ps1", "prompt.ps1"),
            values,
            names=", ".join(f"'{name}'" for name in EXPORTED_NAMES),
        )

    def subshell(self, directory: Path, env: Mapping[str, str], activation: Activation) -> Subshell:
        """Return how to run it with a command that PowerShell runs after the user's own profile."""
        del directory, env
        text = INIT.format(
            prompt=read_script("prompt.ps1"),
            exports=export_lines(self, activation),
            label=self.quote(activation.label),
            color=self.quote(activation.color),
        )
        encoded = base64.b64encode(text.encode("utf-16-le")).decode("ascii")
        return Subshell(("-NoLogo", "-NoExit", "-EncodedCommand", encoded), {}, {})

"""PowerShell 5.1 and 7."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from llmstack.shell.base import Subshell, exports, fill, script
from llmstack.shell.environment import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.shell.base import HookValues, Look

# PowerShell takes typographic quotes for plain ones.
_QUOTE = re.compile("['\u2018\u2019\u201a\u201b]")
INIT = """if (-not (Test-Path -Path Function:__LlmstackCheck)) {{ # the hook does it all
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
    line_for_rc = "llmstack activate powershell | Out-String | Invoke-Expression"

    def quote(self, text: str) -> str:
        """Return source that means exactly this text: between single quotes a quote is written twice."""
        doubled = _QUOTE.sub(lambda found: found[0] * 2, text)
        return f"'{doubled}'"

    def export(self, name: str, value: str) -> str:
        """Return the line that exports a variable."""
        return f"$env:{name} = {self.quote(value)}"

    def unset(self, name: str) -> str:
        """Return the line that removes a variable."""
        return f"[Environment]::SetEnvironmentVariable('{name}', [NullString]::Value)"

    def source(self, path: Path) -> str:
        """Return the line that reads a file."""
        name = self.quote(str(path))
        return f"if (Test-Path -LiteralPath {name}) {{ . {name} }}"

    def hook(self, values: HookValues) -> str:
        """Return the text of the hook."""
        # Windows PowerShell reads a file without the mark in the local code page.
        return "\ufeff" + fill(
            self.quote, ("hook.ps1", "prompt.ps1"), values, names=", ".join(f"'{name}'" for name in NAMES)
        )

    def subshell(self, state: Path, env: Mapping[str, str], look: Look) -> Subshell:
        """Return how to run it with a command that follows the user's own profile."""
        del state, env
        text = INIT.format(
            prompt=script("prompt.ps1"),
            exports=exports(self, look),
            label=self.quote(look.label),
            color=self.quote(look.color),
        )
        encoded = base64.b64encode(text.encode("utf-16-le")).decode("ascii")
        return Subshell(("-NoLogo", "-NoExit", "-EncodedCommand", encoded), {}, {})

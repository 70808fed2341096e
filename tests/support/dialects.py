"""How each shell says what the tests have it do."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass

MARK = "@@"  # ends the prompt that the tests' users have


@dataclass(frozen=True)
class Dialect:
    """One shell.

    Attributes:
        program: what is run; `options` make it interactive.
        rc: the file it reads first, below the home.
        prompt: its line that sets the prompt, up to the mark.
        end: a line that prints `END{0}.` and does not contain it.
        probe: a line that writes what the shell exports into the file `{0}`, separated by NUL.
        enter: a line that enters the directory `$BASE/$NAME`, where `{0}` is `NAME`.
        status: a line that says how the last command ended: `success`, or after the line `fail` `failure`.
        child: a line that opens another of the same.
    """

    program: str
    options: tuple[str, ...]
    rc: str
    prompt: str
    end: str
    probe: str
    enter: str
    child: str
    status: str = "echo code $?"
    success: str = "code 0"
    fail: str = "sh -c 'exit 3'"
    failure: str = "code 3"


_END = " echo E''ND{0}."
_PROBE = "command env -0 > {0}"
_ENTER = 'cd "$BASE"; cd -- "${0}"'
BASH = Dialect("bash", ("-i",), ".bashrc", f"PS1='{MARK} '", _END, _PROBE, _ENTER, "bash -i")
ZSH = Dialect(
    "zsh", ("-i",), ".zshrc", f"unsetopt prompt_sp; PROMPT='{MARK} '", _END, _PROBE, _ENTER, "zsh -i"
)
FISH = Dialect(
    "fish",
    ("-i",),
    "config/fish/config.fish",  # config: XDG_CONFIG_HOME
    f"function fish_prompt; echo -n '{MARK} '; end; set -g fish_greeting; function fish_title; end",
    _END,
    _PROBE,
    _ENTER,
    "fish -i",
    status="echo code $status",
)
# Its profile lies in a place of its own on each system, so it is told what to read.
_PWSH_OPTIONS = ("-NoLogo", "-NoProfile", "-NoExit", "-ExecutionPolicy", "Bypass", "-Command")
_PWSH_RC = ". (Join-Path $env:HOME rc.ps1)"
POWERSHELL = Dialect(
    "pwsh",
    (*_PWSH_OPTIONS, _PWSH_RC),
    "rc.ps1",
    f"function global:prompt {{ '{MARK} ' }}; function global:true {{ }}",
    "'E' + 'ND{0}.'",
    "[IO.File]::WriteAllText('{0}',"
    " (@(Get-ChildItem Env: | ForEach-Object {{ $_.Name + '=' + $_.Value }}) -join [char]0))",
    "Set-Location -LiteralPath ($env:BASE + [IO.Path]::DirectorySeparatorChar + $env:{0})",
    f"pwsh {' '.join(_PWSH_OPTIONS)} '{_PWSH_RC}'",
    status='"code $? $LASTEXITCODE"',
    success="code True",
    fail=f"& '{sys.executable}' -c 'raise SystemExit(3)'",
    failure="code False 3",
)
DIALECTS = {"bash": BASH, "zsh": ZSH, "fish": FISH, "powershell": POWERSHELL}
UNIX = ("bash", "zsh", "fish") if sys.platform != "win32" else ()
# Where there is no PowerShell its tests do not exist: a skipped one would count as failed.
HERE = UNIX + (("powershell",) if shutil.which(POWERSHELL.program) else ())

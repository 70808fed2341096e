"""The hook file of a shell, in the user's home directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.shell.base import HookValues, Shell


@dataclass(frozen=True, slots=True)
class HookFile:
    """A hook on disk, and the lines that load it.

    Attributes:
        source_line: loads the file into a running shell.
        rc_file: the user's startup file, for people to read, such as `~/.zshrc`.
        rc_line: the line for `rc_file`; it rewrites the hook for the installed version, then loads it.
    """

    path: Path
    source_line: str
    rc_file: str
    rc_line: str


def hook_file(shell: Shell, home: Path) -> HookFile:
    """Return the hook file of a shell, whether it exists or not."""
    path = home / shell.hook_name
    return HookFile(path, shell.source_line(path), shell.rc_file, shell.rc_line)


def write_hook(shell: Shell, home: Path, values: HookValues) -> HookFile:
    """Write the hook file, unless it is up to date.

    Raises:
        LlmstackError: it cannot be written.
    """
    hook = hook_file(shell, home)
    text = shell.hook_script(values)
    if not hook.path.is_file() or hook.path.read_bytes() != text.encode():
        write_atomic(hook.path, text)
    return hook


def remove_hook(shell: Shell, home: Path) -> bool:
    """Remove the hook file; return whether it existed."""
    path = hook_file(shell, home).path
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed

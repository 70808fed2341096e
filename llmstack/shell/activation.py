"""Writing a shell's hook into the user's home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.shell.base import HookValues, Shell


@dataclass(frozen=True, slots=True)
class Activation:
    """A hook on disk.

    Attributes:
        line: reads it.
        always: what a user puts into `rc_file`: writes it anew, so that it fits the version, and reads it.
    """

    path: Path
    line: str
    rc_file: str
    always: str


def activation(shell: Shell, home: Path) -> Activation:
    """Return where the hook of a shell is, or would be."""
    path = home / shell.hook_name
    return Activation(path, shell.source(path), shell.rc_file, shell.line_for_rc)


def activate(shell: Shell, home: Path, values: HookValues) -> Activation:
    """Write the hook.

    Raises:
        LlmstackError: it cannot be written.
    """
    done = activation(shell, home)
    text = shell.hook(values)
    if not done.path.is_file() or done.path.read_bytes() != text.encode():
        write_atomic(done.path, text)
    return done


def remove(shell: Shell, home: Path) -> bool:
    """Remove the hook; return whether there was one."""
    path = activation(shell, home).path
    there = path.exists()
    path.unlink(missing_ok=True)
    return there

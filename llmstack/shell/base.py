"""The interface of a shell, and helpers to render scripts for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from llmstack.shell.environment import EXPORTED_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PLACEHOLDER = re.compile("@(PYTHON|ENTRY|TRUST_FILE|NAMES)@")


@dataclass(frozen=True, slots=True)
class HookValues:
    """Paths that a hook script contains.

    Attributes:
        python: the interpreter that runs `entry.py`.
        trust_file: the list of trusted projects.
    """

    python: Path
    trust_file: Path


@dataclass(frozen=True, slots=True)
class Subshell:
    """How to run a shell as an activated child process.

    Attributes:
        args: arguments after the program's name.
        env: variables to add to the inherited environment.
        files: files to write first, text by absolute path.
    """

    args: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[Path, str]


@dataclass(frozen=True, slots=True)
class Activation:
    """What an activated shell exports and what its prompt shows.

    Attributes:
        exports: variables by name.
        label: the prefix of the prompt.
        color: its number among xterm's 256 colours; empty for no colour.
    """

    exports: Mapping[str, str]
    label: str
    color: str


class Shell(Protocol):
    """A supported shell: its files, its syntax, its hook."""

    @property
    def name(self) -> str:
        """Name of the shell, as `llmstack activate` accepts it."""

    @property
    def hook_name(self) -> str:
        """Name of the hook file in the user's home directory."""

    @property
    def rc_file(self) -> str:
        """The startup file that every new terminal runs, such as `~/.zshrc`."""

    @property
    def rc_line(self) -> str:
        """The line for `rc_file`; it rewrites the hook for the installed version, then loads it."""

    def quote(self, text: str) -> str:
        """Return source code for a literal string."""

    def export_line(self, name: str, value: str) -> str:
        """Return the line that exports a variable."""

    def unset_line(self, name: str) -> str:
        """Return the line that removes a variable."""

    def source_line(self, path: Path) -> str:
        """Return the line that runs a script in this shell; the line does nothing if the file is missing."""

    def hook_script(self, values: HookValues) -> str:
        """Return the text of the hook."""

    def subshell(self, directory: Path, env: Mapping[str, str], activation: Activation) -> Subshell:
        """Return how to run an activated child shell, which reads the user's own startup files first.

        Args:
            directory: for the files to write; nobody else may write to it.
            env: the environment of the child.
            activation: exported and shown after the user's startup files have run, which may change both.
        """


def read_script(name: str) -> str:
    """Return the text of a file in `scripts/`."""
    return resources.files("llmstack.shell").joinpath("scripts", name).read_text(encoding="utf-8")


def render_hook(
    quote: Callable[[str], str], scripts: Sequence[str], values: HookValues, *, names: str
) -> str:
    """Concatenate scripts and replace their placeholders.

    Args:
        quote: returns source code for a literal string in this shell.
        scripts: names of files in `scripts/`.
        values: paths to insert.
        names: the names of the exported variables, as a list in this shell's syntax.
    """
    replacements = {
        "PYTHON": quote(str(values.python)),
        "ENTRY": quote(str(Path(__file__).with_name("entry.py"))),
        "TRUST_FILE": quote(str(values.trust_file)),
        "NAMES": names,
    }
    # A single pass, so that a placeholder inside a value is not replaced.
    return _PLACEHOLDER.sub(lambda match: replacements[match[1]], "".join(map(read_script, scripts)))


def export_lines(shell: Shell, activation: Activation) -> str:
    """Return the lines that export the variables of an activation and unset the other exported names."""
    lines = [shell.export_line(name, value) for name, value in activation.exports.items()]
    lines += [shell.unset_line(name) for name in EXPORTED_NAMES if name not in activation.exports]
    return "\n".join(lines)

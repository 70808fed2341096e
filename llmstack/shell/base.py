"""What a shell must be able to say for llmstack to wire it up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from llmstack.shell.environment import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PLACEHOLDER = re.compile("@(PYTHON|ENTRY|STORE|NAMES)@")


@dataclass(frozen=True, slots=True)
class HookValues:
    """What the text of a hook names.

    Attributes:
        python: the interpreter that runs `entry.py`.
        store: the list of trusted projects.
    """

    python: Path
    store: Path


@dataclass(frozen=True, slots=True)
class Subshell:
    """A shell to run as a child, wired up for one project.

    Attributes:
        arguments: behind the program's name.
        env: set for it, beside what it inherits.
        files: to be written first, by absolute path.
    """

    arguments: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[Path, str]


@dataclass(frozen=True, slots=True)
class Look:
    """What a subshell exports, and what its prompt shows: a label and the number of its colour, or none."""

    exports: Mapping[str, str]
    label: str
    color: str


class Shell(Protocol):
    """One shell: how it is hooked, and how it says a value."""

    @property
    def name(self) -> str:
        """As `activate` takes it."""

    @property
    def hook_name(self) -> str:
        """Name of its hook's file, in the user's home."""

    @property
    def rc_file(self) -> str:
        """Where a user puts a line that every new terminal runs."""

    @property
    def line_for_rc(self) -> str:
        """That line: it writes the hook anew, so that it fits this version, and reads it."""

    def quote(self, text: str) -> str:
        """Return source that means exactly this text."""

    def export(self, name: str, value: str) -> str:
        """Return the line that exports a variable."""

    def unset(self, name: str) -> str:
        """Return the line that removes a variable."""

    def source(self, path: Path) -> str:
        """Return the line that reads a file of this shell, and does nothing where it is gone."""

    def hook(self, values: HookValues) -> str:
        """Return the text of the hook."""

    def subshell(self, state: Path, env: Mapping[str, str], look: Look) -> Subshell:
        """Return how to run it as a child that reads the user's own files first.

        Args:
            state: `.llmstack/` of the project.
            env: the child's environment, which the user's own files may change.
            look: what it exports after them, and shows in its prompt.
        """


def script(name: str) -> str:
    """Return one of the scripts that come with the package."""
    return resources.files("llmstack.shell").joinpath("scripts", name).read_text(encoding="utf-8")


def fill(quote: Callable[[str], str], scripts: Sequence[str], values: HookValues, *, names: str) -> str:
    """Return the hook of a shell with its values in place, each in that shell's own quoting.

    Args:
        quote: as the shell does.
        scripts: what it is made of, in this order.
        values: to fill in.
        names: the variables' names, as this shell writes a list of words.
    """
    filled = {
        "PYTHON": quote(str(values.python)),
        "ENTRY": quote(str(Path(__file__).with_name("entry.py"))),
        "STORE": quote(str(values.store)),
        "NAMES": names,
    }
    # In one pass: nothing in a value is taken for a placeholder.
    return _PLACEHOLDER.sub(lambda found: filled[found[1]], "".join(map(script, scripts)))


def exports(shell: Shell, look: Look) -> str:
    """Return the lines that export what a subshell has."""
    gone = [shell.unset(name) for name in NAMES if name not in look.exports]
    return "\n".join([shell.export(name, value) for name, value in look.exports.items()] + gone)

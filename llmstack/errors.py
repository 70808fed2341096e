"""Expected failures: what happened, where, and what to do next.

What the shell hook imports at a prompt (this module is part of it) has NamedTuples in place of dataclasses:
those would bring in `inspect`, a third of what the hook takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class LlmstackError(Exception):
    """A failure the user can do something about; anything else is a bug and shows its traceback.

    Args:
        message: what happened, naming the place and what was expected.
        hint: the next step, where one helps.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LlmstackError):
    """The command was called in a way that cannot work (exit code 2)."""

    exit_code = 2


class Problem(NamedTuple):
    """One mistake in a file.

    Attributes:
        line: 1-based; 0 where the mistake is something missing from the whole file.
        section: the INI section it is in, empty outside any.
        message: what is wrong, with the value and what was expected.
        hint: how to mend it, where one helps.
    """

    line: int
    section: str
    message: str
    hint: str | None = None


class ConfigError(LlmstackError):
    """A configuration file that cannot be used; carries every problem found in it."""

    def __init__(self, source: Path | str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(self._line(problem) for problem in problems))

    def _line(self, problem: Problem) -> str:
        place = f"{self.source}:{problem.line}" if problem.line else f"{self.source}"
        section = f" [{problem.section}]" if problem.section else ""
        return f"{place}:{section} {problem.message}"

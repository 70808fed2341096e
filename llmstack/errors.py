"""Errors that the user can act on: what happened, where, and what to do next.

The shell hook imports this module at a prompt, so it uses NamedTuples: dataclasses import `inspect`, which
takes a third of the hook's time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class LlmstackError(Exception):
    """An error that the user can act on; any other exception is a bug and shows its traceback.

    Args:
        message: what happened, with the location and what was expected.
        hint: the next step, if one helps.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LlmstackError):
    """The command was called with wrong arguments (exit code 2)."""

    exit_code = 2


class Problem(NamedTuple):
    """One mistake in a file.

    Attributes:
        line: 1-based; 0 if something is missing from the whole file.
        section: the INI section; empty if it is outside of any section.
        message: what is wrong, with the value and what was expected.
        hint: how to fix it, if a hint helps.
    """

    line: int
    section: str
    message: str
    hint: str | None = None


class ConfigError(LlmstackError):
    """A configuration file that cannot be used, with all of its problems."""

    def __init__(self, source: Path | str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(self._format(problem) for problem in problems))

    def _format(self, problem: Problem) -> str:
        location = f"{self.source}:{problem.line}" if problem.line else f"{self.source}"
        section = f" [{problem.section}]" if problem.section else ""
        return f"{location}:{section} {problem.message}"

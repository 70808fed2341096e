"""The only place that prints: data on stdout, messages on stderr; rich on a terminal, plain when piped."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.markup import escape as escape  # noqa: PLC0414 - those who show results need it too
from rich.table import Table

from llmstack.errors import ConfigError, LlmstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llmstack.progress import Bar

PIPED_WIDTH = 400  # a table that is piped is not to be cut at a terminal's width
STYLES = {
    "resident": "green",
    "loading": "yellow",
    "idle": "dim",
    "down": "red",
    "remote": "cyan",
    "ok": "green",
    "error": "red",
    "warning": "yellow",
}


class Console:
    """Standard output and standard error."""

    def __init__(self) -> None:
        self._out = _rich(stderr=False)
        self._err = _rich(stderr=True)

    @property
    def interactive(self) -> bool:
        """Whether a person sees what is printed and can answer."""
        return self._out.is_terminal and self._err.is_terminal

    def json(self, value: Any) -> None:
        """Print one JSON document."""
        self._out.file.write(json.dumps(value, default=_plain, indent=2) + "\n")

    def data(self, text: str) -> None:
        """Print text as it is, on stdout."""
        self._out.print(text, markup=False, highlight=False, soft_wrap=True)

    def piece(self, text: str) -> None:
        """Print a piece of a text that is still being written, at once."""
        self._out.file.write(text)
        self._out.file.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
        """Print a table; a cell may hold rich markup.

        Columns whose name starts with `>` are figures, set to the right. Where the terminal is narrow, those
        that end in `~` are wrapped and those that end in `…` are cut.
        """
        if title:
            self._out.print(title, style="bold", soft_wrap=True)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(
                column.strip(">~…"),
                justify="right" if column.startswith(">") else "left",
                overflow="fold" if column.endswith("~") else "ellipsis",
                no_wrap=not column.endswith("~"),
            )
        for row in rows:
            table.add_row(*row)
        with self._out.capture() as shown:
            self._out.print(table)
        for line in shown.get().splitlines():
            self._out.file.write(line.rstrip() + "\n")  # no blanks up to the edge

    def say(self, text: str) -> None:
        """Print a message, with rich markup."""
        self._err.print(text, highlight=False, soft_wrap=True)

    def warn(self, text: str, hint: str = "") -> None:
        """Print a warning and how to mend it."""
        self._labelled("warning", "yellow", text)
        if hint:
            self._labelled("hint", "cyan", hint)

    def error(self, error: LlmstackError) -> None:
        """Print an expected failure and what to do next."""
        if isinstance(error, ConfigError):
            for problem, line in zip(error.problems, error.message.splitlines(), strict=True):
                self._labelled("error", "red", line)
                if problem.hint:
                    self._labelled("hint", "cyan", problem.hint)
            return
        self._labelled("error", "red", error.message)
        if error.hint:
            self._labelled("hint", "cyan", error.hint)

    def _labelled(self, label: str, style: str, text: str) -> None:
        self._err.print(f"[bold {style}]{label}:[/] {escape(text)}", highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Show what is being waited for while the block runs: a spinner on a terminal, else lines."""
        if not self._err.is_terminal:
            shown: list[str] = []

            def line(text: str) -> None:
                if shown[-1:] != [text]:
                    shown.append(text)
                    self._err.print(text, markup=False, highlight=False, soft_wrap=True)

            yield line
            return
        with self._err.status("") as spinner:
            yield lambda text: spinner.update(escape(text))

    @contextmanager
    def bars(self) -> Iterator[Callable[[Sequence[Bar]], None]]:
        """Show the progress of files while the block runs: bars on a terminal, else lines."""
        from llmstack.console_progress import PipedBars, TerminalBars  # noqa: PLC0415 - for downloads only

        if not self._err.is_terminal:
            yield PipedBars(self.say).show
            return
        shown = TerminalBars(self._err)
        with shown.progress:
            yield shown.show

    def watch(self, show: Callable[[], None], *, every_s: float) -> None:
        """Show something again and again, until Ctrl-C; on a terminal each time in the place of the last."""
        while True:
            with self._out.capture() as shown:
                show()
            if self._out.is_terminal:
                self._out.clear()
            self._out.file.write(shown.get())
            self._out.file.flush()
            time.sleep(every_s)

    def interrupted(self) -> None:
        """End the line in which a terminal shows `^C`: the shell's prompt would follow it there."""
        if self._err.is_terminal:
            self._err.print()

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question; no is the default, and the answer where nobody can be asked."""
        if not self.interactive:
            return False
        self._err.print(f"{escape(question)} [dim]\\[y/N][/] ", end="", highlight=False)
        try:
            return input().strip().lower() in {"y", "yes"}
        except EOFError:
            return False


def _rich(*, stderr: bool) -> RichConsole:
    console = RichConsole(stderr=stderr)
    return console if console.is_terminal else RichConsole(stderr=stderr, width=PIPED_WIDTH)


def styled(word: str) -> str:
    """Return a word in the colour of what it says."""
    style = STYLES.get(word)
    return f"[{style}]{escape(word)}[/]" if style else escape(word)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")

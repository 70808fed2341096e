"""Output of all commands: data on stdout, messages on stderr; styled on a terminal, plain when piped.

Every text passes `terminal_text` on its way out, so that nothing that a server, a model or a file says is
taken for a command by the terminal.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.markup import escape as escape  # noqa: PLC0414 - reports import it from here
from rich.table import Table

from llmstack.errors import ConfigError, LlmstackError
from llmstack.terminal_text import printable, printable_line, unguarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llmstack.progress import FileProgress

PIPED_WIDTH = 400  # columns; does not cut tables that are piped
STYLES = {
    "loaded": "green",
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
        self._out = _rich_console(stderr=False)
        self._err = _rich_console(stderr=True)

    @property
    def is_interactive(self) -> bool:
        """Whether both stdout and stderr are terminals."""
        return self._out.is_terminal and self._err.is_terminal

    def json(self, value: Any) -> None:
        """Print one JSON document."""
        self._out.file.write(json.dumps(value, default=_to_json, indent=2) + "\n")

    def print(self, text: str) -> None:
        """Print plain text on stdout."""
        self._out.print(printable_line(text), markup=False, highlight=False, soft_wrap=True, emoji=False)

    def write(self, text: str) -> None:
        """Write text to stdout without a newline, and flush it, for an answer that arrives in pieces.

        A pipe gets the text as it is.
        """
        to_terminal = self._out.is_terminal or self._out.file.isatty()
        self._out.file.write(printable(text) if to_terminal else text)
        self._out.file.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
        """Print a table on stdout; cells may contain rich markup.

        A column whose name starts with `>` is aligned right. On a narrow terminal, columns whose name ends
        with `~` are wrapped, all others are cut; a name may end with `…` to say so.
        """
        if title:
            self._out.print(printable_line(title), style="bold", soft_wrap=True)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(
                column.strip(">~…"),
                justify="right" if column.startswith(">") else "left",
                overflow="fold" if column.endswith("~") else "ellipsis",
                no_wrap=not column.endswith("~"),
            )
        for row in rows:
            table.add_row(*map(printable_line, row))
        with self._out.capture() as captured:
            self._out.print(table)
        for line in captured.get().splitlines():
            self._out.file.write(line.rstrip() + "\n")  # rich pads lines to the full width

    def info(self, text: str) -> None:
        """Print a message on stderr; it may contain rich markup."""
        self._err.print(printable_line(text), highlight=False, soft_wrap=True)

    def warn(self, text: str, hint: str = "") -> None:
        """Print a warning, and a hint how to fix it."""
        self._labelled("warning", "yellow", text)
        if hint:
            self._labelled("hint", "cyan", hint)

    def error(self, error: LlmstackError) -> None:
        """Print an expected error and its hint."""
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
        shown = escape(printable_line(text))
        self._err.print(f"[bold {style}]{label}:[/] {shown}", highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Yield a function that shows what is being waited for: a spinner on a terminal, else lines."""
        if not self._err.is_terminal:
            last: str | None = None

            def print_line(text: str) -> None:
                nonlocal last
                if text != last:
                    last = text
                    self._err.print(printable_line(text), markup=False, highlight=False, soft_wrap=True)

            yield print_line
            return
        with self._err.status("") as spinner:
            yield lambda text: spinner.update(escape(printable_line(text)))

    @contextmanager
    def bars(self) -> Iterator[Callable[[Sequence[FileProgress]], None]]:
        """Yield a function that shows the progress of files: bars on a terminal, else lines."""
        from llmstack.console_progress import PipedBars, TerminalBars  # noqa: PLC0415 - only downloads need it

        if not self._err.is_terminal:
            yield PipedBars(self.info).show
            return
        bars = TerminalBars(self._err)
        with bars.progress:
            yield bars.show

    def watch(self, show: Callable[[], None], *, every_s: float) -> None:
        """Call `show` repeatedly until Ctrl-C; on a terminal, clear the screen each time."""
        while True:
            with self._out.capture() as captured:
                show()
            if self._out.is_terminal:
                self._out.clear()
            self._out.file.write(captured.get())
            self._out.file.flush()
            time.sleep(every_s)

    def end_line(self) -> None:
        """End the line in which the terminal shows `^C`, so that the shell's prompt starts on a new one."""
        if self._err.is_terminal:
            self._err.print()

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question; return False by default and if the console is not interactive."""
        if not self.is_interactive:
            return False
        self._err.print(f"{escape(printable_line(question))} [dim]\\[y/N][/] ", end="", highlight=False)
        try:
            return input().strip().lower() in {"y", "yes"}
        except EOFError:
            return False


def _rich_console(*, stderr: bool) -> RichConsole:
    file = unguarded(sys.stderr if stderr else sys.stdout)
    console = RichConsole(file=file, emoji=False)
    return console if console.is_terminal else RichConsole(file=file, emoji=False, width=PIPED_WIDTH)


def colorize(word: str) -> str:
    """Return markup that shows a state or an outcome in its colour."""
    style = STYLES.get(word)
    return f"[{style}]{escape(word)}[/]" if style else escape(word)


def _to_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")

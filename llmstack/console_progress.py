"""Progress of several files: bars on a terminal, occasional lines when piped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.text import Text

from llmstack.progress import STYLES, FileProgress, format_decimal_bytes
from llmstack.terminal_text import printable_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console as RichConsole
    from rich.progress import Task

LINE_STEP = 10  # percent
FETCHING = "fetching"
MAX_ESTIMATE_S = 100 * 3600  # longer estimates mean nothing


def format_clock(seconds: float) -> str:
    """Return a duration as `4:05` or `1:04:05`."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _AmountColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = format_decimal_bytes(task.total) if task.total is not None else "?"
        done = format_decimal_bytes(task.completed)
        done = done.removesuffix(total[-3:]) if done[-3:] == total[-3:] else done
        return Text(f"{done}/{total}", justify="right")


class _SpeedColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        state = printable_line(str(task.fields["state"]))
        if state != FETCHING or not task.speed:
            return Text("" if state == FETCHING else state, style=STYLES.get(state, "dim"))
        remaining = task.time_remaining
        estimate = (
            f"  {format_clock(remaining)} left"
            if remaining is not None and remaining < MAX_ESTIMATE_S
            else ""
        )
        return Text(f"{format_decimal_bytes(task.speed)}/s{estimate}")


class TerminalBars:
    """A bar for each file, and one for the total if there are several."""

    def __init__(self, console: RichConsole) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            _AmountColumn(),
            _SpeedColumn(),
            console=console,
            expand=True,
            speed_estimate_period=10,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started: set[str] = set()

    def show(self, bars: Sequence[FileProgress]) -> None:
        """Update the bars."""
        fetching = any(bar.state == FETCHING for bar in bars)
        totals = [bar.total for bar in bars if bar.total is not None]
        all_files = FileProgress(
            "all", FETCHING if fetching else "", sum(bar.done for bar in bars), sum(totals) or None
        )
        started = {bar.name for bar in bars if bar.done}
        for bar in [*bars, all_files] if len(bars) > 1 else bars:
            if bar.name not in self._tasks:
                self._tasks[bar.name] = self.progress.add_task(
                    escape(printable_line(bar.name)), total=None, state=""
                )
            task = self._tasks[bar.name]
            # Bytes from an earlier run arrive all at once and must not count as speed.
            if (bar.name in started or bar is all_files) and started - self._started:
                self.progress.reset(task, completed=bar.done, total=bar.total, start=True)
            self.progress.update(task, completed=bar.done, total=bar.total, state=bar.state)
        self._started |= started


class PipedBars:
    """A line whenever the state of a file changes, and for every tenth of it."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print_line = print_line
        self._last_steps: dict[str, tuple[str, int]] = {}

    def show(self, bars: Sequence[FileProgress]) -> None:
        """Print a line for each file that has progressed."""
        for bar in bars:
            percent = 100 * bar.done // bar.total if bar.total else 0
            step = (bar.state, percent // LINE_STEP if bar.state == FETCHING else 0)
            if self._last_steps.get(bar.name) == step or bar.state == "waiting":
                continue
            self._last_steps[bar.name] = step
            total = f" of {format_decimal_bytes(bar.total)}" if bar.total is not None else ""
            self._print_line(
                escape(f"{bar.name}: {bar.state}, {percent}%, {format_decimal_bytes(bar.done)}{total}")
            )

"""Progress of several files: bars on a terminal, lines now and then where the output is piped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.text import Text

from llmstack.progress import STYLES, Bar, amount

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console as RichConsole
    from rich.progress import Task

LINE_EVERY = 10  # percent
MOVING = "fetching"
NO_TIME = 100 * 3600  # longer than that is no estimate


def clock(seconds: float) -> str:
    """Return a time span as `4:05` or `1:04:05`."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


class _Amounts(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = amount(task.total) if task.total is not None else "?"
        done = amount(task.completed)
        done = done.removesuffix(total[-3:]) if done[-3:] == total[-3:] else done
        return Text(f"{done}/{total}", justify="right")


class _Pace(ProgressColumn):
    def render(self, task: Task) -> Text:
        state = str(task.fields["state"])
        if state != MOVING or not task.speed:
            return Text("" if state == MOVING else state, style=STYLES.get(state, "dim"))
        left = task.time_remaining
        ends = f"  {clock(left)} left" if left is not None and left < NO_TIME else ""
        return Text(f"{amount(task.speed)}/s{ends}")


class TerminalBars:
    """A bar for each file and, where there are several, one for all."""

    def __init__(self, console: RichConsole) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            _Amounts(),
            _Pace(),
            console=console,
            expand=True,
            speed_estimate_period=10,
        )
        self._tasks: dict[str, TaskID] = {}
        self._begun: set[str] = set()

    def show(self, bars: Sequence[Bar]) -> None:
        """Bring the bars up to date."""
        moving = any(bar.state == MOVING for bar in bars)
        totals = [bar.total for bar in bars if bar.total is not None]
        every = Bar("all", MOVING if moving else "", sum(bar.done for bar in bars), sum(totals) or None)
        begun = {bar.name for bar in bars if bar.done}
        for bar in [*bars, every] if len(bars) > 1 else bars:
            if bar.name not in self._tasks:
                self._tasks[bar.name] = self.progress.add_task(escape(bar.name), total=None, state="")
            task = self._tasks[bar.name]
            # What an earlier run had fetched comes in one leap, which is no speed.
            if (bar.name in begun or bar is every) and begun - self._begun:
                self.progress.reset(task, completed=bar.done, total=bar.total, start=True)
            self.progress.update(task, completed=bar.done, total=bar.total, state=bar.state)
        self._begun |= begun


class PipedBars:
    """A line when something begins or ends, and at every tenth of a file."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._shown: dict[str, tuple[str, int]] = {}

    def show(self, bars: Sequence[Bar]) -> None:
        """Print what is new."""
        for bar in bars:
            share = 100 * bar.done // bar.total if bar.total else 0
            step = (bar.state, share // LINE_EVERY if bar.state == MOVING else 0)
            if self._shown.get(bar.name) == step or bar.state == "waiting":
                continue
            self._shown[bar.name] = step
            of = f" of {amount(bar.total)}" if bar.total is not None else ""
            self._line(escape(f"{bar.name}: {bar.state}, {share}%, {amount(bar.done)}{of}"))

"""Run `llmstack demo` in a pseudo-terminal and draw what it printed: docs/demo.svg.

    pip install -e '.[engine]' pyte
    python scripts/record_demo.py

The picture shows one real run. It needs no font and nothing else from outside the file. Linux and macOS.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyte
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyte.screens import Char

COLUMNS, ROWS = 100, 60
MARGIN = 2  # columns, on the right of the picture
PICTURE = Path(__file__).parents[1] / "docs" / "demo.svg"
COMMAND = "llmstack demo"
# What pyte calls the standard colours that rich has another word for.
RICH_COLORS = {"default": "default", "brown": "yellow"}

SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
  <title>A run of `llmstack demo`</title>
  <style>
    .{unique_id}-matrix {{
      font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
      font-size: {char_height}px;
      line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
    {styles}
  </style>
  <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
  </defs>
  {chrome}
  <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
  </g>
</svg>
"""


def main() -> None:
    """Record, draw and write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--output", type=Path, default=PICTURE)
    output: Path = options.parse_args().output
    lines = screen_lines(run_in_terminal([sys.executable, "-P", "-m", *COMMAND.split()]))
    output.write_text(draw([Text(f"$ {COMMAND}", style="bold"), *lines]), encoding="utf-8")
    print(f"wrote {output}")  # noqa: T201 - a script


def run_in_terminal(argv: Sequence[str]) -> bytes:
    """Return everything a command wrote to its terminal, with an empty home directory.

    Raises:
        SystemExit: it failed; with what it printed.
    """
    main_end, command_end = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, **size, "HOME": home, "TERM": "xterm-256color", "COLORTERM": ""}
        process = subprocess.Popen(argv, stdin=command_end, stdout=command_end, stderr=command_end, env=env)
        os.close(command_end)
        written = bytearray()
        while True:
            try:
                chunk = os.read(main_end, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not chunk:
                break
            written += chunk
        os.close(main_end)
        if code := process.wait():
            raise SystemExit(
                f"{written.decode(errors='replace')}\nerror: {COMMAND} ended with exit code {code}"
            )
    return bytes(written)


def screen_lines(written: bytes) -> list[Text]:
    """Return what a terminal shows in the end: the spinner has come and gone."""
    screen = pyte.Screen(COLUMNS, ROWS)
    pyte.ByteStream(screen).feed(written)
    lines = [_line(screen, row) for row in range(ROWS)]
    while lines and not lines[-1].plain:
        lines.pop()
    return lines


def _line(screen: pyte.Screen, row: int) -> Text:
    chars = [screen.buffer[row][column] for column in range(COLUMNS)]
    runs = ((style, "".join(char.data for char in run)) for style, run in itertools.groupby(chars, _style))
    text = Text.assemble(*((data, style) for style, data in runs))
    text.rstrip()
    return text


def _style(char: Char) -> str:
    color = RICH_COLORS.get(char.fg, char.fg)
    if color.startswith("bright"):
        color = f"bright_{color.removeprefix('bright')}"
    elif len(color) == 6 and color != "yellow" and all(digit in "0123456789abcdef" for digit in color):  # noqa: PLR2004 - RRGGBB
        color = f"#{color}"
    return f"bold {color}" if char.bold else color


def draw(lines: Sequence[Text]) -> str:
    """Return the lines as a picture."""
    console = Console(
        record=True, width=COLUMNS + MARGIN, file=io.StringIO(), color_system="truecolor", force_terminal=True
    )
    for line in lines:
        console.print(line, soft_wrap=True)
    svg = console.export_svg(title=COMMAND, theme=MONOKAI, code_format=SVG, unique_id="demo")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    main()

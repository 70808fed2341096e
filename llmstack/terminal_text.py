"""Text from elsewhere on its way to a terminal: it must not be able to give the terminal commands.

Answers of models, names at a hub, logs and errors of servers are not ours. An escape sequence in them could
write to the clipboard (OSC 52), retitle the window, or overwrite what stands above.
"""

from __future__ import annotations

import re
from typing import Any, TextIO

# C0 without tab and newline, DEL, C1, and half a surrogate pair, which no terminal can show.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Marks, embeddings, overrides and isolates: they change the order in which a line is read (Unicode UAX 9).
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    r"""Return a text without control characters other than newlines and tabs.

    Each is replaced, so that a reader sees that something was there. Only `\r` is left out: it ends lines
    together with `\n`, and alone it would let a text overwrite its own line.
    """
    return _CONTROL.sub(REPLACEMENT, text.replace("\r", ""))


def printable_line(text: str) -> str:
    """Return `printable` text that also reads in the order in which it is written.

    For messages and table cells. Longer texts may need the marks: Hebrew and Arabic use them.
    """
    return _BIDI.sub(REPLACEMENT, printable(text))


class GuardedStream:
    """A terminal for whatever is printed past the console: by a library, a warning, a traceback.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text that is made `printable`."""
        return self.stream.write(printable(text))

    def writelines(self, lines: list[str]) -> None:
        """Write lines that are made `printable`."""
        self.stream.writelines(map(printable, lines))

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the terminal."""
        return getattr(self.stream, name)


def unguarded(stream: TextIO | GuardedStream) -> TextIO:
    """Return the terminal behind a guard: the console writes its own escape sequences to it."""
    return stream.stream if isinstance(stream, GuardedStream) else stream

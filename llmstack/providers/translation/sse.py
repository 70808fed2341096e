"""Server-sent events, read as they come: a chunk may hold half an event, or five."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


class SseParser:
    """Cuts a stream of bytes into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that are complete now."""
        self._rest += chunk
        done: list[bytes] = []
        start = 0
        for found in _LINE_END.finditer(self._rest):
            if found[0] == b"\r" and found.end() == len(self._rest):
                break  # its \n may be on the way
            self._line(self._rest[start : found.start()], done)
            start = found.end()
        self._rest = self._rest[start:]
        return done

    def end(self) -> list[bytes]:
        """Return what the end of the stream completes: some servers leave the last blank line out."""
        done = self.feed(b"\n\n")
        self._rest = b""
        return done

    def _line(self, line: bytes, done: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            done.append(b"\n".join(self._data))
            self._data = []

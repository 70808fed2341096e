"""Parser of server-sent events. A chunk of the stream may hold half an event, or several."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


class SseParser:
    """Splits a stream of bytes into the data of its events."""

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that this chunk completes."""
        self._buffer += chunk
        events: list[bytes] = []
        start = 0
        for match in _LINE_END.finditer(self._buffer):
            if match[0] == b"\r" and match.end() == len(self._buffer):
                break  # the \n of this line end may follow
            self._add_line(self._buffer[start : match.start()], events)
            start = match.end()
        self._buffer = self._buffer[start:]
        return events

    def close(self) -> list[bytes]:
        """Return the data of an event that ends with the stream: some servers omit the last blank line."""
        events = self.feed(b"\n\n")
        self._buffer = b""
        return events

    def _add_line(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            events.append(b"\n".join(self._data))
            self._data = []

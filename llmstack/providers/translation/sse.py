"""Parser of server-sent events. A chunk of the stream may hold half an event, or several."""

from __future__ import annotations

import re

from llmstack.providers.errors import MalformedResponseError
from llmstack.units import MB
from llmstack.upstream.limits import MAX_TRANSLATED_BYTES

_LINE_END = re.compile(rb"\r\n|\n|\r")


class SseParser:
    """Splits a stream of bytes into the data of its events."""

    def __init__(self) -> None:
        self._partial: list[bytes] = []  # the parts of a line that has not ended
        self._data: list[bytes] = []  # the lines of an event that has not ended
        self._line_bytes = self._data_bytes = 0  # of these parts and lines
        self._ends_with_cr = False  # the \n of this line end may follow

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that this chunk completes.

        Raises:
            MalformedResponseError: an event is too large.
        """
        if self._ends_with_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
        self._ends_with_cr = chunk.endswith(b"\r") if chunk else self._ends_with_cr
        events: list[bytes] = []
        start = 0
        for match in _LINE_END.finditer(chunk):
            self._add_line(b"".join((*self._partial, chunk[start : match.start()])), events)
            self._partial.clear()
            self._line_bytes = 0
            start = match.end()
        if start < len(chunk):
            self._partial.append(chunk[start:])
            self._line_bytes += len(chunk) - start
        if self._line_bytes + self._data_bytes > MAX_TRANSLATED_BYTES:
            raise MalformedResponseError(
                f"an event of its answer is larger than {MAX_TRANSLATED_BYTES // MB} MB"
            )
        return events

    def close(self) -> list[bytes]:
        """Return the data of an event that ends with the stream: some servers omit the last blank line."""
        return self.feed(b"\n\n")

    def _add_line(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._data_bytes += len(line)
        elif not line and self._data:
            events.append(b"\n".join(self._data))
            self._data, self._data_bytes = [], 0

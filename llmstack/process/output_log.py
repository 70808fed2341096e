"""Logs of what processes print: files of bounded size, written at a bounded rate."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.files import open_private
from llmstack.units import KB, MB

if TYPE_CHECKING:
    from io import TextIOWrapper
    from pathlib import Path

LOG_BYTES = 2_000_000
LOG_BACKUPS = 2
TAIL_LINES = 40
MAX_LINE_BYTES = 65_536  # longer lines are split
BURST_BYTES = 8 * MB  # what a process may print at once; then
BYTES_PER_S = 2 * MB  # so much each second
KEPT_BYTES = 4 * KB  # of the end of what is left out: it often says why a process ended


class _RotatingLog(RotatingFileHandler):
    """Writes each line with one system call; the base class formats it twice and stats the file each time."""

    _size = 0

    def _open(self) -> TextIOWrapper:
        # Logs of model servers quote parts of requests that they refuse.
        stream = open(  # noqa: SIM115 - `Path.open` has no opener; the handler closes it
            self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=open_private
        )
        self._size = stream.tell()
        return stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, into a new file if this one is full."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
            if self._size + len(line) > self.maxBytes and self._size:
                self.doRollover()
            if self.stream is None:
                self.stream = self._open()
            self._size += os.write(self.stream.fileno(), line)
        except Exception:  # noqa: BLE001 - as in the base class: a log that cannot be written must not stop the caller
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Drop a line that cannot be written: if the disk is full, no message could be written either."""


def rotating_log(path: Path) -> RotatingFileHandler:
    """Return a handler that appends to `path`, with two backups, each file at most 2 MB.

    Raises:
        LlmstackError: the file cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, LOG_BACKUPS + 1):
            with contextlib.suppress(FileNotFoundError):
                os.close(open_private(f"{path}.{number}", os.O_RDONLY))
        return _RotatingLog(path, maxBytes=LOG_BYTES, backupCount=LOG_BACKUPS, encoding="utf-8")
    except OSError as error:
        raise LlmstackError(f"cannot write {path}: {error.strerror or error}") from error


class OutputLog:
    """Writes what a process prints to a log. A process that prints too much loses a part of it.

    Args:
        handler: the log; closed with this object.

    Attributes:
        tail: the last lines.
    """

    def __init__(self, handler: RotatingFileHandler) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._handler = handler
        self._partial = b""
        self._credit = float(BURST_BYTES)  # bytes that may be written now
        self._updated = time.monotonic()
        self._left_out = 0

    def feed(self, data: bytes) -> None:
        """Write the lines that these bytes complete."""
        now = time.monotonic()
        self._credit = min(float(BURST_BYTES), self._credit + (now - self._updated) * BYTES_PER_S)
        self._updated = now
        if self._credit <= 0:
            self._leave_out(data)
            return
        text, newline, rest = (self._partial + data).rpartition(b"\n")
        self._partial = rest
        if newline:
            self._write(text)
        while len(self._partial) > MAX_LINE_BYTES:
            self._write(self._partial[:MAX_LINE_BYTES])
            self._partial = self._partial[MAX_LINE_BYTES:]

    def close(self) -> None:
        """Write what is left, and close the log."""
        if self._partial:
            self._write(self._partial)
        self._partial = b""
        with contextlib.suppress(OSError):  # the disk may be full
            self._handler.close()

    def _leave_out(self, data: bytes) -> None:
        recent = self._partial + data
        self._partial = recent[-KEPT_BYTES:]
        self._left_out += len(recent) - len(self._partial)

    def _write(self, data: bytes) -> None:
        """Write whole lines with one system call: one for each line would take as long as all else."""
        self._credit -= len(data)
        text = data.decode(errors="replace").replace("\r\n", "\n").rstrip("\r")
        if self._left_out:
            text = f"[{self._left_out} bytes are left out here: it printed too much at once]\n{text}"
            self._left_out = 0
        self.tail.extend(text.rsplit("\n", TAIL_LINES)[-TAIL_LINES:])
        self._handler.emit(logging.makeLogRecord({"msg": text}))

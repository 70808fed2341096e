"""A server process that the router owns: its life hangs on a pipe, its output goes to a bounded log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections import deque
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, cast

from llmstack.errors import LlmstackError
from llmstack.process.identity import Daemon, Identity, write_pid_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from io import TextIOWrapper
    from pathlib import Path

LOG_BYTES = 2_000_000
LOG_BACKUPS = 2
TAIL_LINES = 40
LONGEST_LINE = 65_536  # bytes; a longer one is cut into several
WATCH_S = 0.5
GRACE_S = 5.0  # for a child that was asked to end
DRAIN_S = 1.0  # for output that a process outside the group may still hold open


class _Log(RotatingFileHandler):
    """Writes each line with one call. The library's own formats it twice and looks at the disk for each."""

    _size = 0

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        self._size = stream.tell()
        return stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, into a new file where this one is full."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
            if self._size + len(line) > self.maxBytes and self._size:
                self.doRollover()
            if self.stream is None:
                self.stream = self._open()
            self._size += os.write(self.stream.fileno(), line)
        except Exception:  # noqa: BLE001 - as the library has it: a log that cannot be written stops nobody
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Let a line go that cannot be written: with the disk full, saying so would not be written either."""


def rotating_log(path: Path) -> RotatingFileHandler:
    """Return a handler that appends to `path` and keeps it and its two predecessors under 2 MB each.

    Raises:
        LlmstackError: the file cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _Log(path, maxBytes=LOG_BYTES, backupCount=LOG_BACKUPS, encoding="utf-8")
    except OSError as error:
        raise LlmstackError(f"cannot write {path}: {error.strerror or error}") from error


class Child:
    """One running child. Made by `Child.spawn`; it ends when this process ends, however that ends.

    The child holds the reading end of a pipe as its stdin and must exit when it closes.
    """

    def __init__(self, transport: asyncio.SubprocessTransport, output: _Output) -> None:
        self._transport = transport
        self._output = output
        self._pid = transport.get_pid()

    @classmethod
    async def spawn(
        cls, argv: Sequence[str], *, env: Mapping[str, str], port: int, pid_file: Path, log: Path
    ) -> Child:
        """Start a child and write its pid file.

        Raises:
            LlmstackError: the program cannot be started, or its log or pid file not be written.
        """
        loop = asyncio.get_running_loop()
        handler = rotating_log(log)
        try:
            transport, output = await loop.subprocess_exec(
                lambda: _Output(handler, pid_file, loop.create_future()),
                *argv,
                env=dict(env),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=os.name != "nt",
            )
        except OSError as error:
            handler.close()
            raise LlmstackError(f"cannot start {argv[0]}: {error.strerror or error}") from error
        except BaseException:
            handler.close()
            raise
        child = cls(transport, output)
        identity = Identity.of(child.pid)
        if identity is not None and transport.get_returncode() is None:
            try:
                write_pid_file(pid_file, Daemon(identity, tuple(argv), port))
            except LlmstackError:
                await child.stop(grace_s=0)
                raise
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that killed it."""
        return self._transport.get_returncode() if self._output.ended.done() else None

    @property
    def tail(self) -> list[str]:
        """The last lines it printed."""
        return list(self._output.tail)

    async def wait(self) -> int:
        """Wait until it has ended and all its output is in the log; return its exit code."""
        await asyncio.shield(self._output.ended)
        return self._transport.get_returncode() or 0

    async def stop(self, *, grace_s: float = GRACE_S) -> None:
        """Ask it to end by closing its pipe and SIGTERM, kill it after `grace_s` seconds."""
        if (stdin := self._transport.get_pipe_transport(0)) is not None:
            stdin.close()
        if os.name != "nt":  # there it would be killed at once, and a launcher leave its server behind
            with contextlib.suppress(ProcessLookupError):
                self._transport.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await self.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()
            _kill_group(self._pid)
            await self.wait()


class _Output(asyncio.SubprocessProtocol):
    """Copies what a child prints into its log; once it ended, ends its group and forgets its pid file."""

    def __init__(self, log: RotatingFileHandler, pid_file: Path, ended: asyncio.Future[None]) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.ended = ended
        self._log = log
        self._pid_file = pid_file
        self._partial = b""
        self._transport: asyncio.SubprocessTransport | None = None
        self._exited = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transport is one, but does not derive from it.
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._watch(self._transport)

    def _watch(self, transport: asyncio.SubprocessTransport) -> None:
        """Look whether it ended: uvloop says so only once its output is closed."""
        if transport.get_returncode() is not None:
            self.process_exited()
        elif not self.ended.done():
            asyncio.get_running_loop().call_later(WATCH_S, self._watch, transport)

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._record(line)
        while len(self._partial) > LONGEST_LINE:
            self._record(self._partial[:LONGEST_LINE])
            self._partial = self._partial[LONGEST_LINE:]

    def process_exited(self) -> None:
        if self._transport is not None and not self._exited:
            self._exited = True
            # A launcher that was killed must not leave its server behind, which also holds the output open.
            _kill_group(self._transport.get_pid())
            asyncio.get_running_loop().call_later(DRAIN_S, self._transport.close)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._partial:
            self._record(self._partial)
        with contextlib.suppress(OSError):  # the disk may be full
            self._log.close()
        with contextlib.suppress(OSError):
            self._pid_file.unlink(missing_ok=True)
        if self._transport is not None:
            self._transport.close()
        if not self.ended.done():
            self.ended.set_result(None)

    def _record(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self.tail.append(text)
        self._log.emit(logging.makeLogRecord({"msg": text}))


def _kill_group(leader: int) -> None:
    if os.name != "nt":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)

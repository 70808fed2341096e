"""Server processes owned by the router: each ends with the router, and logs to files of bounded size."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, cast

from llmstack.errors import LlmstackError
from llmstack.process.identity import Daemon, Identity, write_pid_file
from llmstack.process.output_log import OutputLog, rotating_log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SHOWN_LINES = 6  # of a log, in a message
POLL_S = 0.5
GRACE_S = 5.0  # between the request to end and SIGKILL
DRAIN_S = 1.0  # how long to read on after the child ended: another process may hold its output open


def format_log_lines(lines: Sequence[str]) -> str:
    """Return the last few lines of a log, each on a line of its own, to be put at the end of a message."""
    return "".join(f"\n  {line}" for line in lines[-SHOWN_LINES:])


class Child:
    """A running child process, created by `Child.spawn`. It ends with this process, however that ends.

    The child's stdin is a pipe, and the child must exit when that pipe closes.
    """

    def __init__(self, transport: asyncio.SubprocessTransport, output: _Output) -> None:
        self._transport = transport
        self._output = output
        self._pid = transport.get_pid()

    @classmethod
    async def spawn(
        cls, argv: Sequence[str], *, env: Mapping[str, str], port: int | None, pid_file: Path, log: Path
    ) -> Child:
        """Start a child and write its pid file.

        Raises:
            LlmstackError: the program cannot be started, or its log or pid file cannot be written.
        """
        loop = asyncio.get_running_loop()
        output_log = OutputLog(rotating_log(log))
        try:
            transport, output = await loop.subprocess_exec(
                lambda: _Output(output_log, pid_file, loop.create_future()),
                *argv,
                env=dict(env),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=os.name != "nt",
            )
        except OSError as error:
            output_log.close()
            raise LlmstackError(f"cannot start {argv[0]}: {error.strerror or error}") from error
        except BaseException:
            output_log.close()
            raise
        child = cls(transport, output)
        identity = Identity.from_pid(child.pid)
        if identity is not None and transport.get_returncode() is None:
            try:
                write_pid_file(pid_file, Daemon(identity, tuple(argv), port or 0))
            except LlmstackError:
                await child.stop(grace_s=0)
                raise
        return child

    @property
    def pid(self) -> int:
        """The process id."""
        return self._pid

    @property
    def exit_code(self) -> int | None:
        """The exit code: None while the child runs, negative if a signal killed it."""
        return self._transport.get_returncode() if self._output.ended.done() else None

    @property
    def tail(self) -> list[str]:
        """The last lines of its output."""
        return list(self._output.log.tail)

    async def wait(self) -> int:
        """Wait until the child has ended and all its output is in the log; return its exit code."""
        await asyncio.shield(self._output.ended)
        return self._transport.get_returncode() or 0

    async def stop(self, *, grace_s: float = GRACE_S) -> None:
        """Close the pipe and send SIGTERM; send SIGKILL if the child still runs after `grace_s` seconds."""
        if (stdin := self._transport.get_pipe_transport(0)) is not None:
            stdin.close()
        if os.name != "nt":  # there `terminate` kills at once, and a launcher would leave its server behind
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
    """Copies a child's output into its log; when it has ended, kills its group and removes its pid file."""

    def __init__(self, log: OutputLog, pid_file: Path, ended: asyncio.Future[None]) -> None:
        self.log = log
        self.ended = ended
        self._pid_file = pid_file
        self._transport: asyncio.SubprocessTransport | None = None
        self._exited = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not isinstance: uvloop's transport does not derive from this class.
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._poll(self._transport)

    def _poll(self, transport: asyncio.SubprocessTransport) -> None:
        """Poll for the end of the child: uvloop reports it only after the output is closed."""
        if transport.get_returncode() is not None:
            self.process_exited()
        elif not self.ended.done():
            asyncio.get_running_loop().call_later(POLL_S, self._poll, transport)

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        self.log.feed(data)

    def process_exited(self) -> None:
        if self._transport is not None and not self._exited:
            self._exited = True
            # If a launcher was killed, its server still runs in the group and holds the output open.
            _kill_group(self._transport.get_pid())
            asyncio.get_running_loop().call_later(DRAIN_S, self._transport.close)

    def connection_lost(self, _error: Exception | None) -> None:
        self.log.close()
        with contextlib.suppress(OSError):
            self._pid_file.unlink(missing_ok=True)
        if self._transport is not None:
            self._transport.close()
        if not self.ended.done():
            self.ended.set_result(None)


def _kill_group(leader: int) -> None:
    """Kill every process in the group of this leader."""
    if os.name != "nt":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)

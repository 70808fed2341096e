"""Run a stdio MCP server and exchange messages with it, each on a line of its own.

In place of the SDK's own transport, which sets no limit to a line, copies all of it with each read, needs a
file for the server's standard error, and writes what is no message to this program's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any, cast

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage

from llmstack.providers.translation.base import is_too_complex
from llmstack.units import MB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

MAX_MESSAGE_BYTES = 4 * MB  # 1 million tokens of text
GRACE_S = 2.0  # between closing its standard input and SIGTERM, and from there to SIGKILL
STDOUT, STDERR = 1, 2


class MessageTooLargeError(Exception):
    """The server sent a line that is longer than any message may be, or holds too many objects."""


@contextlib.asynccontextmanager
async def run_server(
    command: Sequence[str], env: Mapping[str, str], on_output: Callable[[bytes], None]
) -> AsyncIterator[Any]:
    """Run a server; yield the streams that the SDK's client reads messages from and writes them to.

    Args:
        command: the program and its arguments.
        env: its whole environment.
        on_output: gets what it writes to standard error, and lines that are no message.

    Raises:
        OSError: the program cannot be run.
        MessageTooLargeError: the server sent a line that is too long, which ends the session.
    """
    program = shutil.which(command[0], path=env.get("PATH")) or command[0]
    transport, process = await asyncio.get_running_loop().subprocess_exec(
        lambda: _Process(on_output),
        program,
        *command[1:],
        env=dict(env),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=os.name != "nt",
    )
    try:
        to_client, messages = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        requests, from_client = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_read_messages, process, to_client, on_output)
            tasks.start_soon(_write_messages, process, from_client, transport)
            yield messages, requests
            tasks.cancel_scope.cancel()
    finally:
        await _stop(transport, process.ended)


class _Process(asyncio.SubprocessProtocol):
    """The pipes of a server.

    Attributes:
        stdout: its standard output, which is not read far ahead.
        writable: whether it reads what is written to its standard input.
        ended: whether it has ended, and all its output was read.
    """

    def __init__(self, on_error_output: Callable[[bytes], None]) -> None:
        self.stdout = asyncio.StreamReader(limit=MAX_MESSAGE_BYTES)
        self.writable, self.ended = asyncio.Event(), asyncio.Event()
        self.writable.set()
        self._on_error_output = on_error_output

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pipe = cast("asyncio.SubprocessTransport", transport).get_pipe_transport(STDOUT)
        if pipe is not None:
            self.stdout.set_transport(pipe)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == STDOUT:
            self.stdout.feed_data(data)
        else:
            self._on_error_output(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - of the protocol
        if fd != STDERR:  # the session can go on without that
            self.stdout.feed_eof()
            self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - of the protocol
        self.ended.set()


async def _read_messages(process: _Process, to_client: Any, on_output: Callable[[bytes], None]) -> None:
    async with to_client:
        while line := await _read_line(process.stdout):
            if is_too_complex(line):
                raise MessageTooLargeError
            try:
                message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                on_output(line)
                await asyncio.sleep(0)  # a line that is here already would be read without a pause
                continue
            if isinstance(message, types.JSONRPCRequest):  # of a server that may not read the answers
                await process.writable.wait()
            with contextlib.suppress(anyio.BrokenResourceError):  # the client is closing
                await to_client.send(SessionMessage(message))


async def _read_line(stdout: asyncio.StreamReader) -> bytes:
    """Return the next line; empty at the end."""
    try:
        return await stdout.readline()
    except ValueError as error:
        raise MessageTooLargeError from error


async def _write_messages(
    process: _Process, from_client: Any, transport: asyncio.SubprocessTransport
) -> None:
    stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
    async with from_client:
        async for outgoing in from_client:
            text = outgoing.message.model_dump_json(by_alias=True, exclude_unset=True)
            if not stdin.is_closing():
                stdin.write(f"{text}\n".encode())
            await process.writable.wait()


async def _stop(transport: asyncio.SubprocessTransport, ended: asyncio.Event) -> None:
    """End the server: close its standard input, then SIGTERM, then SIGKILL, which its children get, too."""
    try:
        if (stdin := transport.get_pipe_transport(0)) is not None:
            stdin.close()
        await _wait_a_moment(ended)
        if not ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                transport.terminate()
            await _wait_a_moment(ended)
    finally:  # also if this is cancelled
        _kill_group(transport)
        await _wait_a_moment(ended)
        transport.close()


async def _wait_a_moment(event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await event.wait()


def _kill_group(transport: asyncio.SubprocessTransport) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "nt":
            transport.kill()
        else:
            os.killpg(transport.get_pid(), signal.SIGKILL)

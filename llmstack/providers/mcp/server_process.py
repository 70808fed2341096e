"""The process of a stdio MCP server, and the session with it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import tempfile
from typing import TYPE_CHECKING, Any, TextIO

from llmstack.providers.errors import (
    MalformedResponseError,
    ProviderError,
    ProviderUnreachableError,
    RejectedError,
    TimedOutError,
)
from llmstack.providers.translation.failures import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START_TIMEOUT_S = 30.0  # an interpreter may have to load a large library on a busy machine
ALIVE_TIMEOUT_S = 2.0  # a server that takes longer to respond is assumed to be busy
MAX_QUOTED_BYTES, MAX_QUOTED_LINES = 4096, 3  # of the end of the log, in errors
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
_MIN_SECRET_CHARS = 6  # shorter values are no secrets, and redacting them would mutilate ordinary words


class ServerProcess:
    """One run of an MCP server.

    A single task enters and leaves the session, as the SDK requires.

    Args:
        command: the program and its arguments.
        tool: name of the tool to call.
        env: the whole environment of the program.
        provider: for errors.
        log: file for the program's standard error; a temporary file if None.

    Attributes:
        tool_schema: the tool's input schema; empty before `start`.
        is_running: whether the session is open.
    """

    def __init__(
        self, command: Sequence[str], tool: str, env: Mapping[str, str], provider: str, log: TextIO | None
    ) -> None:
        self._command = command
        self._tool = tool
        self._env = dict(env)
        self._provider = provider
        self._owns_log = log is None
        self._log = log or tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._log_start = self._log.seek(0, 2)  # earlier runs wrote what is before this offset
        self._stop_requested = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._client: Any = None
        self._active_calls = 0
        self.tool_schema: Mapping[str, Any] = {}
        self.is_running = False

    async def start(self) -> None:
        """Run the program, open the session and read the tool's schema.

        Raises:
            ProviderError: the program cannot be run, does not start in time, or has no such tool.
        """
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold_session(ready))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await asyncio.shield(ready)
        except TimeoutError as error:
            await self.stop()
            raise TimedOutError(
                f"{self._label} did not start in {START_TIMEOUT_S:g} s{self._quote_log()}",
                provider=self._provider,
            ) from error
        except BaseException:
            await self.stop()
            raise

    async def check_alive(self) -> bool:
        """Return whether the server can be called: it may have ended since the last call."""
        from mcp import MCPError  # noqa: PLC0415 - a heavy import, for this backend only

        if self.is_running and not self._active_calls:  # a busy server may not respond
            try:
                async with asyncio.timeout(ALIVE_TIMEOUT_S):
                    await self._client.session.list_tools()  # not `ping`, which is deprecated
            except MCPError as error:
                self._note_if_closed(error)
            except TimeoutError:
                pass
        return self.is_running

    async def call(self, arguments: dict[str, Any]) -> Any:
        """Call the tool; return an MCP `CallToolResult`.

        Raises:
            RejectedError: the server refuses the call.
            MalformedResponseError: the server ended.
        """
        from mcp import MCPError  # noqa: PLC0415 - as above

        self._active_calls += 1
        try:
            return await self._client.call_tool(self._tool, arguments)
        except MCPError as error:
            self._note_if_closed(error)
            if self.is_running:
                message = redact(error.message, self._secrets)
                raise RejectedError(f"the MCP server refuses: {message}", provider=self._provider) from error
            raise MalformedResponseError(
                f"{self._label} ended{self._quote_log()}", provider=self._provider
            ) from error
        finally:
            self._active_calls -= 1

    async def stop(self) -> None:
        """End the program. The SDK waits for it to exit, then kills it."""
        self._stop_requested.set()
        self.is_running = False
        if self._task is not None:
            if self._client is None:
                self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._task])
        if self._owns_log:
            self._log.close()

    @property
    def _label(self) -> str:
        return f"the MCP server `{shlex.join(self._command)}`"

    def _note_if_closed(self, error: Any) -> None:
        from mcp_types import CONNECTION_CLOSED  # noqa: PLC0415 - as above

        if error.code == CONNECTION_CLOSED:
            self.is_running = False

    async def _hold_session(self, ready: asyncio.Future[None]) -> None:
        """Open the session and keep it open until `stop` is called."""
        try:
            from mcp import Client, StdioServerParameters, stdio_client  # noqa: PLC0415 - as above
        except ImportError:
            ready.set_exception(
                ProviderUnreachableError(
                    "the extra `mcp` is not installed",
                    provider=self._provider,
                    hint="pip install 'llmstack-local[mcp]'",
                )
            )
            return
        program, *args = self._command
        parameters = StdioServerParameters(command=program, args=args, env=self._env)
        try:
            # `legacy`: all servers support this handshake, and old ones exit if they receive anything else.
            async with Client(stdio_client(parameters, self._log), mode="legacy") as client:
                self._client = client
                self.tool_schema = await self._fetch_tool_schema(client)
                self.is_running = True
                ready.set_result(None)
                await self._stop_requested.wait()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever another program causes is reported to the caller
            if not ready.done():
                ready.set_exception(self._explain_start_failure(error))
        finally:
            self.is_running = False

    async def _fetch_tool_schema(self, client: Any) -> Mapping[str, Any]:
        """Return the tool's input schema.

        Raises:
            RejectedError: the server has no such tool.
        """
        names, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                if tool.name == self._tool:
                    schema: Mapping[str, Any] = tool.input_schema
                    return schema
                names.append(tool.name)
            cursor = page.next_cursor
            if not cursor:
                break
        raise RejectedError(
            f"the MCP server has no tool `{self._tool}`; it has {', '.join(names) or 'none'}",
            provider=self._provider,
        )

    def _explain_start_failure(self, error: BaseException) -> ProviderError:
        while isinstance(error, BaseExceptionGroup):  # raised by the SDK's task groups
            error = error.exceptions[0]
        if isinstance(error, ProviderError):
            return error
        if isinstance(error, OSError):
            return ProviderUnreachableError(
                f"cannot run {self._label}: {error.strerror or error}", provider=self._provider
            )
        return MalformedResponseError(
            f"{self._label} did not start{self._quote_log()}", provider=self._provider
        )

    @property
    def _secrets(self) -> tuple[str, ...]:
        values = (value for name, value in self._env.items() if _SECRET_NAME.search(name))
        return tuple(value for value in values if len(value) >= _MIN_SECRET_CHARS)

    def _quote_log(self) -> str:
        """Return the last lines of this run's log, without credentials; empty if there are none."""
        try:
            self._log.flush()
            end = self._log.seek(0, 2)
            self._log.seek(max(self._log_start, end - MAX_QUOTED_BYTES))
            lines = [line for line in self._log.read().splitlines() if line.strip()]
        except (OSError, ValueError):  # the log cannot be read back
            return ""
        return ":\n" + redact("\n".join(lines[-MAX_QUOTED_LINES:]), self._secrets) if lines else ""

"""The process of a stdio MCP server, and the session with it."""

from __future__ import annotations

import asyncio
import importlib
import re
import shlex
from typing import TYPE_CHECKING, Any

from llmstack.providers.errors import (
    MalformedResponseError,
    ProviderError,
    ProviderUnreachableError,
    RejectedError,
    TimedOutError,
)
from llmstack.providers.translation.failures import redact
from llmstack.units import MB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

START_TIMEOUT_S = 30.0  # until the tools are known: an interpreter may have to load a large library
ALIVE_TIMEOUT_S = 2.0  # a server that takes longer to respond is assumed to be busy
MAX_PAGES = 100  # of the list of tools
MAX_NAMED_TOOLS = 20  # in an error
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
        log: gets what the program prints besides messages; None for nobody.

    Attributes:
        tool_schema: the tool's input schema; empty before `start`.
        is_running: whether the session is open.
    """

    def __init__(
        self,
        command: Sequence[str],
        tool: str,
        env: Mapping[str, str],
        provider: str,
        log: Callable[[bytes], None] | None,
    ) -> None:
        self._command = command
        self._tool = tool
        self._env = dict(env)
        self._provider = provider
        self._log = log
        self._output = b""  # the end of it, for errors
        self._stop_requested = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._client: Any = None
        self._active_calls = 0
        self.tool_schema: Mapping[str, Any] = {}
        self.is_running = False
        self._is_starting = True
        self._problem = ""

    async def start(self) -> None:
        """Run the program, open the session and read the tool's schema.

        Raises:
            ProviderError: the program cannot be run, does not start in time, or has no such tool.
        """
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold_session(ready))
        try:
            await asyncio.shield(ready)
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
                message = redact(error.message, self.secrets)
                raise RejectedError(f"the MCP server refuses: {message}", provider=self._provider) from error
            raise MalformedResponseError(await self._explain_end(), provider=self._provider) from error
        finally:
            self._active_calls -= 1

    async def stop(self) -> None:
        """End the program: it has a moment to exit, then it is killed."""
        self._stop_requested.set()
        if self._task is not None:
            if self._is_starting:
                self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def _label(self) -> str:
        return f"the MCP server `{shlex.join(self._command)}`"

    def _note_if_closed(self, error: Any) -> None:
        from mcp_types import CONNECTION_CLOSED  # noqa: PLC0415 - as above

        if error.code == CONNECTION_CLOSED:
            self.is_running = False
            self._stop_requested.set()

    async def _explain_end(self) -> str:
        """Return why the server ended, which the task of the session knows once it has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])
        return f"{self._label} {self._problem or 'ended'}{self._quote_output()}"

    async def _hold_session(self, ready: asyncio.Future[None]) -> None:
        """Open the session and keep it open until `stop` is called."""
        try:
            await self._run_session(ready)
        except Exception as error:  # noqa: BLE001 - whatever another program causes is reported to the caller
            failure = self._explain_failure(error)
            if not ready.done():
                ready.set_exception(failure)
        finally:
            self.is_running = self._is_starting = False
            ready.cancel()

    async def _run_session(self, ready: asyncio.Future[None]) -> None:
        try:
            # In a thread: it takes a second or two.
            await asyncio.to_thread(importlib.import_module, "llmstack.providers.mcp.stdio")
            from mcp import Client  # noqa: PLC0415 - as above

            from llmstack.providers.mcp.stdio import run_server  # noqa: PLC0415 - it needs the SDK, too
        except ImportError as error:
            raise ProviderUnreachableError(
                "the extra `mcp` is not installed",
                provider=self._provider,
                hint="pip install 'llmstack-local[mcp]'",
            ) from error
        server = run_server(self._command, self._env, self._on_output)
        async with asyncio.timeout(START_TIMEOUT_S) as deadline:
            # `legacy`: all servers support this handshake, and old ones exit if they receive anything else.
            async with Client(server, mode="legacy") as client:
                self._client = client
                self.tool_schema = await self._fetch_tool_schema(client)
                deadline.reschedule(None)
                self.is_running, self._is_starting = True, False
                ready.set_result(None)
                await self._stop_requested.wait()

    async def _fetch_tool_schema(self, client: Any) -> Mapping[str, Any]:
        """Return the tool's input schema.

        Raises:
            RejectedError: the server has no such tool.
        """
        names: list[str] = []
        cursor = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                if tool.name == self._tool:
                    schema: Mapping[str, Any] = tool.input_schema
                    return schema
            names += [tool.name for tool in page.tools[:MAX_NAMED_TOOLS]]
            cursor = page.next_cursor
            if not cursor:
                break
        more = ", …" if len(names) > MAX_NAMED_TOOLS else ""
        shown = ", ".join(names[:MAX_NAMED_TOOLS]) or "none"
        raise RejectedError(
            f"the MCP server has no tool `{self._tool}`; it has {shown}{more}",
            provider=self._provider,
        )

    def _explain_failure(self, error: BaseException) -> ProviderError:
        from llmstack.providers.mcp.stdio import (  # noqa: PLC0415 - as above
            MAX_MESSAGE_BYTES,
            MessageTooLargeError,
        )

        while isinstance(error, BaseExceptionGroup):  # raised by the SDK's task groups
            error = error.exceptions[0]
        if isinstance(error, ProviderError):
            return error
        if isinstance(error, TimeoutError):
            text = f"{self._label} did not start in {START_TIMEOUT_S:g} s{self._quote_output()}"
            return TimedOutError(text, provider=self._provider)
        if isinstance(error, OSError):
            return ProviderUnreachableError(
                f"cannot run {self._label}: {error.strerror or error}", provider=self._provider
            )
        self._problem = "did not start" if self._is_starting else "ended"
        if isinstance(error, MessageTooLargeError):
            self._problem = f"sent a message of more than {MAX_MESSAGE_BYTES // MB} MB or too many objects"
        return MalformedResponseError(
            f"{self._label} {self._problem}{self._quote_output()}", provider=self._provider
        )

    def _on_output(self, data: bytes) -> None:
        self._output = (self._output + data)[-MAX_QUOTED_BYTES:]
        if self._log is not None:
            self._log(data)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Credentials in the program's environment, which it may repeat."""
        values = (value for name, value in self._env.items() if _SECRET_NAME.search(name))
        return tuple(value for value in values if len(value) >= _MIN_SECRET_CHARS)

    def _quote_output(self) -> str:
        """Return the last lines that the program printed, without credentials; empty if there are none."""
        lines = [line for line in self._output.decode(errors="replace").splitlines() if line.strip()]
        return ":\n" + redact("\n".join(lines[-MAX_QUOTED_LINES:]), self.secrets) if lines else ""

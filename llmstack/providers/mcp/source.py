"""A model behind one tool of a stdio MCP server, which is started when needed, and again if it ended."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import tempfile
from typing import TYPE_CHECKING, Any, TextIO

from llmstack.providers.base import TIMEOUT_S, Result
from llmstack.providers.errors import (
    MalformedResponseError,
    ProviderError,
    ProviderUnreachableError,
    RejectedError,
    TimedOutError,
)
from llmstack.providers.mcp.arguments import arguments, result
from llmstack.providers.translation.failures import without

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from llmstack.providers.base import Ask

START_S = 30.0  # an interpreter with a large library on a busy machine
ALIVE_S = 2.0  # a server that does not answer by then is taken to be busy
LAST_BYTES, LAST_LINES = 4096, 3  # of what the server said, shown where it ended
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
_SHORTEST = 6  # shorter values are no secrets, and would be cut out of ordinary words


class McpSource:
    """One tool of one server. Calls may overlap; the process is shared.

    Args:
        command: the program and its arguments.
        tool: the tool's name.
        env: the whole environment of the program.
        provider: for results and errors.
        model: told to a tool that takes one; empty for none.
        timeout_s: seconds for a call, the start of the server included.
        log: where the server's own messages go, the end of which is quoted where it ends; a file that is gone
            afterwards without it.
    """

    def __init__(
        self,
        command: Sequence[str],
        tool: str,
        *,
        env: Mapping[str, str],
        provider: str = "mcp",
        model: str = "",
        timeout_s: float = TIMEOUT_S,
        log: TextIO | None = None,
    ) -> None:
        self._command = tuple(command)
        self._tool = tool
        self._env = env
        self.provider = provider
        self.model = model
        self._timeout_s = timeout_s
        self._log = log
        self._server: _Server | None = None
        self._starting = asyncio.Lock()

    async def answer(self, ask: Ask) -> Result:
        """Return a whole answer."""
        try:
            async with asyncio.timeout(self._timeout_s):
                server = await self._up()
                given = arguments(server.schema, ask, model=self.model, tool=self._tool)
                answer = await server.call(given)
        except TimeoutError as error:
            raise TimedOutError(
                f"the MCP server `{self._name}` did not answer within {self._timeout_s:g} s",
                provider=self.provider,
            ) from error
        return result(answer, provider=self.provider, model=self.model, tool=self._tool)

    async def pieces(self, ask: Ask) -> AsyncGenerator[str | Result]:
        """Yield the text, in one piece as tools return it, and the answer."""
        whole = await self.answer(ask)
        yield whole.output
        yield whole

    async def close(self) -> None:
        """End the server."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()

    @property
    def running(self) -> bool:
        """Whether the server is up."""
        return self._server is not None and self._server.up

    @property
    def _name(self) -> str:
        return shlex.join(self._command)

    async def _up(self) -> _Server:
        async with self._starting:
            if self._server is not None and not await self._server.alive():
                await self.close()
            if self._server is None:
                server = _Server(self._command, self._tool, self._env, self.provider, self._log)
                await server.start()
                self._server = server
            return self._server


class _Server:
    """One run of a server. One task enters and leaves its session, as the SDK needs it."""

    def __init__(
        self, command: Sequence[str], tool: str, env: Mapping[str, str], provider: str, log: TextIO | None
    ) -> None:
        self._command = command
        self._tool = tool
        self._env = dict(env)
        self._provider = provider
        self._own_log = log is None
        self._log = log or tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._begun_at = self._log.seek(0, 2)  # before it stands what earlier runs said
        self._told_end = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._client: Any = None
        self._calls = 0
        self.schema: Mapping[str, Any] = {}
        self.up = False

    async def start(self) -> None:
        """Run the program and learn what its tool takes."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(ready))
        try:
            async with asyncio.timeout(START_S):
                await asyncio.shield(ready)
        except TimeoutError as error:
            await self.stop()
            raise TimedOutError(
                f"the MCP server `{shlex.join(self._command)}` did not start in {START_S:g} s{self._last()}",
                provider=self._provider,
            ) from error
        except BaseException:
            await self.stop()
            raise

    async def alive(self) -> bool:
        """Return whether it can be called: it may have ended since the last call."""
        from mcp import MCPError  # noqa: PLC0415 - a heavy import, for this backend only

        if self.up and not self._calls:  # one that is at work may not answer
            try:
                async with asyncio.timeout(ALIVE_S):
                    await self._client.session.list_tools()  # `ping` is on its way out
            except MCPError as error:
                self._ended(error)
            except TimeoutError:
                pass
        return self.up

    async def call(self, given: dict[str, Any]) -> Any:
        """Return what the tool returns."""
        from mcp import MCPError  # noqa: PLC0415 - as above

        self._calls += 1
        try:
            return await self._client.call_tool(self._tool, given)
        except MCPError as error:
            if not self._ended(error):
                message = without(error.message, self._secrets)
                raise RejectedError(f"the MCP server refuses: {message}", provider=self._provider) from error
            raise self._gone() from error
        finally:
            self._calls -= 1

    def _ended(self, error: Any) -> bool:
        from mcp_types import CONNECTION_CLOSED  # noqa: PLC0415 - as above

        if error.code == CONNECTION_CLOSED:
            self.up = False
        return not self.up

    def _gone(self) -> MalformedResponseError:
        return MalformedResponseError(
            f"the MCP server `{shlex.join(self._command)}` ended{self._last()}", provider=self._provider
        )

    async def _live(self, ready: asyncio.Future[None]) -> None:
        """Hold the session open from its start until it is told to end."""
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
        program, *rest = self._command
        parameters = StdioServerParameters(command=program, args=rest, env=self._env)
        try:
            # `legacy`: servers of every age know the handshake, and those that do not end on anything else.
            async with Client(stdio_client(parameters, self._log), mode="legacy") as client:
                self._client = client
                self.schema = await self._schema(client)
                self.up = True
                ready.set_result(None)
                await self._told_end.wait()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary to another program: whatever it did is told
            if not ready.done():
                ready.set_exception(self._explained(error))
        finally:
            self.up = False

    async def _schema(self, client: Any) -> Mapping[str, Any]:
        """Return what the tool takes."""
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

    def _explained(self, error: BaseException) -> ProviderError:
        while isinstance(error, BaseExceptionGroup):  # the SDK's task groups
            error = error.exceptions[0]
        if isinstance(error, ProviderError):
            return error
        what = f"the MCP server `{shlex.join(self._command)}`"
        if isinstance(error, OSError):
            return ProviderUnreachableError(
                f"cannot run {what}: {error.strerror or error}", provider=self._provider
            )
        return MalformedResponseError(f"{what} did not start{self._last()}", provider=self._provider)

    @property
    def _secrets(self) -> tuple[str, ...]:
        values = (value for name, value in self._env.items() if _SECRET_NAME.search(name))
        return tuple(value for value in values if len(value) >= _SHORTEST)

    def _last(self) -> str:
        """Return the last lines that the server said, without credentials."""
        try:
            self._log.flush()
            end = self._log.seek(0, 2)
            self._log.seek(max(self._begun_at, end - LAST_BYTES))
            lines = [line for line in self._log.read().splitlines() if line.strip()]
        except (OSError, ValueError):  # a log that cannot be read back
            return ""
        return ":\n" + without("\n".join(lines[-LAST_LINES:]), self._secrets) if lines else ""

    async def stop(self) -> None:
        """End the program; the SDK waits for it, then kills it."""
        self._told_end.set()
        self.up = False
        if self._task is not None:
            if self._client is None:
                self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._task])
        if self._own_log:
            self._log.close()

"""Call a model behind one tool of a stdio MCP server, which is started on demand and again if it ended."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from llmstack.providers.base import TIMEOUT_S, Result
from llmstack.providers.errors import TimedOutError
from llmstack.providers.mcp.arguments import build_arguments, parse_result
from llmstack.providers.mcp.server_process import ServerProcess
from llmstack.providers.translation.failures import redact

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from llmstack.providers.base import PromptRequest


class McpSource:
    """One tool of one MCP server. A `ModelSource`. Concurrent calls share the server's process.

    Args:
        command: the program and its arguments.
        tool: name of the tool.
        env: the whole environment of the program.
        provider: for results and errors.
        model: name of the model, for a tool that lets the caller choose; empty for none.
        timeout_s: seconds for a call, the start of the server included.
        log: gets what the server prints besides messages, whose end is quoted in errors; nobody by default.
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
        log: Callable[[bytes], None] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._tool = tool
        self._env = env
        self.provider = provider
        self.model = model
        self._timeout_s = timeout_s
        self._log = log
        self._server: ServerProcess | None = None
        self._start_lock = asyncio.Lock()

    async def answer(self, request: PromptRequest) -> Result:
        """Return the result of a call."""
        try:
            async with asyncio.timeout(self._timeout_s):
                server = await self._ensure_started()
                arguments = build_arguments(server.tool_schema, request, model=self.model, tool=self._tool)
                tool_result = await server.call(arguments)
        except TimeoutError as error:
            raise TimedOutError(
                f"the MCP server `{shlex.join(self._command)}` did not answer within {self._timeout_s:g} s",
                provider=self.provider,
            ) from error
        result = parse_result(tool_result, provider=self.provider, model=self.model, tool=self._tool)
        return replace(result, output=redact(result.output, server.secrets))

    async def stream(self, request: PromptRequest) -> AsyncGenerator[str | Result]:
        """Yield the output, which tools return in one piece, and the result."""
        result = await self.answer(request)
        yield result.output
        yield result

    async def close(self) -> None:
        """Stop the server."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()

    @property
    def is_running(self) -> bool:
        """Whether the server is running."""
        return self._server is not None and self._server.is_running

    async def _ensure_started(self) -> ServerProcess:
        async with self._start_lock:
            if self._server is not None and not await self._server.check_alive():
                await self.close()
            if self._server is None:
                server = ServerProcess(self._command, self._tool, self._env, self.provider, self._log)
                await server.start()
                self._server = server
            return self._server

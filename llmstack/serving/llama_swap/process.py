"""The llama-swap process: start it, query it, restart it, stop it with its model servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.parent_watch import PIPE_ONLY, WATCH_MODE_VARIABLE
from llmstack.process.child import Child, format_log_lines
from llmstack.process.leftovers import INSTANCE_VARIABLE, stop_instance
from llmstack.process.ports import require_free_port
from llmstack.serving.llama_swap.program import HOST
from llmstack.upstream.address import child_url
from llmstack.upstream.client import Upstream, UpstreamError, ask
from llmstack.upstream.listener import listener_of_child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

READY_S = 30.0  # it only reads a file before it listens
PROBE_S, FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 0.01, 0.25
LOG_READ_S = 0.5  # llama-swap streams the log of a model without an end
LOG_BYTES = 65_536
STOP_S = 8.0  # its launcher kills it after 4 s; model servers that survive are stopped here
LEFTOVER_S = 2.0
# llama-swap's own lines in a model server's log: `[WARN] <plan> …`, a time as Go prints it, a date and level.
_OWN_LINE = re.compile(
    r"\[?(DEBUG|INFO|WARN|ERROR)\]? |\[GIN\]|time=|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d "
    r"|\d{4}-\d\d-\d\d.*(INFO|WARN|ERROR)"
)

_log = logging.getLogger(__name__)


class LlamaSwapProcess:
    """llama-swap on its port, for this project.

    Args:
        binary: the llama-swap program.
        config_file: `llama-swap.yaml`; its key is read from it.
        port: the port it listens on.
        env: its environment, which its model servers inherit.
        instance: the id in that environment by which a later router recognises its processes.
        pid_file: path of its pid file.
        log: path of the log, for its output and that of its model servers.

    Attributes:
        is_closing: the router is stopping; nothing is started any more.
        is_restarting: `restarting` is in progress.
    """

    def __init__(
        self,
        binary: Path,
        config_file: Path,
        *,
        port: int,
        env: Mapping[str, str],
        instance: str,
        pid_file: Path,
        log: Path,
    ) -> None:
        self._binary = binary
        self._config_file = config_file
        self._port = port
        self._env = {**env, INSTANCE_VARIABLE: instance, WATCH_MODE_VARIABLE: PIPE_ONLY}
        self._instance = instance
        self._pid_file = pid_file
        self.log = log
        self._child: Child | None = None
        self._starting = asyncio.Lock()
        self._key = ""
        self.is_closing = False
        self.is_restarting = False

    @property
    def url(self) -> str:
        """Its address, at which it is sent its key only if it listens there itself."""
        return child_url(self._child.pid if self._child is not None else 0, HOST, self._port)

    @property
    def headers(self) -> dict[str, str]:
        """The header with its key, which it requires with every request."""
        return {"authorization": f"Bearer {self._key}"}

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.exit_code is None

    async def ensure_running(self) -> None:
        """Start it unless it runs, and wait until it answers.

        Raises:
            LlmstackError: it cannot be started; with the last lines of its log.
        """
        async with self._starting:
            if self.is_closing:
                raise LlmstackError("the router is stopping")
            if not self.is_running:
                await self._start()

    async def _start(self) -> None:
        # If an earlier llama-swap was killed, its model servers still hold memory and ports.
        stopped_count = await asyncio.to_thread(stop_instance, self._instance, grace_s=LEFTOVER_S)
        if stopped_count:
            _log.warning("stopped %d processes of an earlier llama-swap", stopped_count)
        require_free_port(HOST, self._port, setting="swap_port", server="llama-swap")
        self._key = _read_key(self._config_file)
        self._child = await Child.spawn(
            [
                *(sys.executable, "-P", "-m", "llmstack.llama_cpp.launcher", str(self._binary)),
                *("-config", str(self._config_file), "-listen", f"{HOST}:{self._port}"),
            ],
            env=self._env,
            port=self._port,
            pid_file=self._pid_file,
            log=self.log,
        )
        try:
            await self._wait_until_healthy(self._child)
        except BaseException:
            await self._child.stop()
            raise
        _log.info("llama-swap is up (pid %s)", self._child.pid)
        # Old versions require no key here. The model does not exist, so that none is loaded.
        status, _ = await self.request("GET", "/upstream/-/health", with_key=False)
        if status not in {0, HTTPStatus.UNAUTHORIZED}:
            _log.warning(
                "this llama-swap requires no key below /upstream (%d):"
                " update it with `llmstack install-llama-swap`",
                status,
            )

    async def _wait_until_healthy(self, child: Child) -> None:
        pause = FIRST_PAUSE_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while child.exit_code is None and not self.is_closing:
                    status, _ = await self.request("GET", "/health")
                    if status == HTTPStatus.OK and await self.model_states() is not None:
                        return
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
        if self.is_closing:
            raise LlmstackError("the router is stopping")
        code = child.exit_code
        how = f"was not ready within {READY_S:g} s" if code is None else f"ended (exit code {code})"
        raise LlmstackError(f"llama-swap {how}{format_log_lines(child.tail)}", hint=f"see {self.log}")

    @contextlib.asynccontextmanager
    async def restarting(self) -> AsyncIterator[None]:
        """Restart it after the block; `ensure_running` waits until that is done."""
        async with self._starting:
            self.is_restarting = True
            try:
                yield
                if self._child is not None:
                    await self._child.stop(grace_s=STOP_S)
                if not self.is_closing:
                    await self._start()
            finally:
                self.is_restarting = False

    async def wait(self) -> None:
        """Wait until it has ended."""
        if self._child is not None:
            await self._child.wait()

    def last_log_lines(self) -> list[str]:
        """Return the last lines that it and its model servers printed."""
        return self._child.tail if self._child is not None else []

    async def request(
        self, method: str, path: str, *, timeout_s: float = PROBE_S, with_key: bool = True
    ) -> tuple[int, str]:
        """Send a request; return status and text of the response, or 0 and why there is none."""
        if self.is_closing and not self.is_running:
            return 0, "the router is stopping"
        try:
            async with asyncio.timeout(timeout_s):
                status, body = await ask(method, f"{self.url}{path}", self.headers if with_key else {})
        except (UpstreamError, TimeoutError) as error:
            return 0, str(error) or f"no response within {timeout_s:g} s"
        return status, body.decode(errors="replace")

    async def model_states(self) -> dict[str, str] | None:
        """Return the state of each model that it runs, as llama-swap names it; None if it gives no answer."""
        status, text = await self.request("GET", "/running")
        if status != HTTPStatus.OK:
            return None
        try:
            models: list[dict[str, Any]] = json.loads(text)["running"] or []
            return {str(model["model"]): str(model["state"]) for model in models}
        except (ValueError, KeyError, TypeError):
            return None

    async def model_log_lines(self, model: str) -> list[str]:
        """Return the last lines that a model's server printed."""
        lines = await self._read_log_stream(f"/logs/stream/{quote(model, safe='')}") or self.last_log_lines()
        return model_server_lines(lines)

    async def _read_log_stream(self, path: str) -> list[str]:
        """Return the lines that a log stream sends at once, which are the past ones."""
        data = b""
        with contextlib.suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(LOG_READ_S), Upstream() as upstream:
                with await upstream.send("GET", f"{self.url}{path}", self.headers, b"") as response:
                    if response.status != HTTPStatus.OK:
                        return []
                    async for chunk in response.chunks():
                        data = (data + chunk)[-LOG_BYTES:]
        return data.decode(errors="replace").splitlines()

    async def find_server(self, tier: str) -> tuple[int | None, int | None]:
        """Return pid and port of a tier's model server; None for both if it does not run."""
        if self._child is None:
            return None, None
        return await asyncio.to_thread(_find_server, self._child.pid, tier)

    async def holds_port(self, port: int) -> bool:
        """Return whether llama-swap or one of its model servers listens on a port."""
        if self._child is None:
            return False
        return await asyncio.to_thread(listener_of_child, self._child.pid, HOST, port) is not None

    async def close(self) -> None:
        """Stop it with all its model servers."""
        self.is_closing = True
        async with self._starting:
            if self._child is not None:
                await self._child.stop(grace_s=STOP_S)
                await asyncio.to_thread(stop_instance, self._instance, grace_s=LEFTOVER_S)


def model_server_lines(lines: list[str]) -> list[str]:
    """Return the lines that model servers printed, without blank lines and llama-swap's own."""
    return [line for line in lines if line.strip() and not _OWN_LINE.match(line)]


def _read_key(config_file: Path) -> str:
    from ruamel.yaml import YAML  # noqa: PLC0415 - takes 50 ms, and only a stack with llama-swap needs it
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - as above

    try:
        return str(YAML(typ="safe", pure=True).load(config_file.read_text(encoding="utf-8"))["apiKeys"][0])
    except (OSError, YAMLError, KeyError, IndexError, TypeError) as error:
        raise LlmstackError(
            f"{config_file}: expected a configuration of llama-swap written by llmstack: {error}",
            hint="`llmstack restart` writes it again",
        ) from error


def _find_server(launcher: int, tier: str) -> tuple[int | None, int | None]:
    """Return pid and port of a tier's model server, which is a descendant of llama-swap's launcher."""
    with contextlib.suppress(psutil.Error, ValueError):
        for process in psutil.Process(launcher).children(recursive=True):
            argv = process.cmdline()
            if "--alias" in argv and argv[argv.index("--alias") + 1] == tier and "--port" in argv:
                return process.pid, int(argv[argv.index("--port") + 1])
    return None, None

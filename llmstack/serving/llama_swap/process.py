"""The llama-swap process: started, waited for, asked, started again after a crash, ended with all it runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.parent_watch import PIPE_ONLY, WATCH_MODE_VARIABLE
from llmstack.process.child import Child
from llmstack.process.leftovers import INSTANCE_VARIABLE, stop_instance
from llmstack.serving.llama_swap.port import HOST, refuse_taken_port
from llmstack.upstream.client import Upstream, UpstreamError, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

OK, UNAUTHORIZED = 200, 401
READY_S = 30.0  # it reads one file and listens
PROBE_S, FIRST_PAUSE_S, LAST_PAUSE_S = 5.0, 0.01, 0.25
LOGS_S = 0.5  # its log of a model is a stream without an end
LOG_BYTES = 65_536
SHOWN_LINES = 6
STOP_S = 8.0  # its launcher kills it after four; what it leaves then is stopped here
LEFTOVER_S = 2.0
# What llama-swap says itself in between: `[WARN] <plan> …`, or a time as Go writes it, or a time and a level.
_ITS_OWN = re.compile(
    r"\[?(DEBUG|INFO|WARN|ERROR)\]? |\[GIN\]|time=|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d "
    r"|\d{4}-\d\d-\d\d.*(INFO|WARN|ERROR)"
)

_log = logging.getLogger(__name__)


class LlamaSwapProcess:
    """llama-swap on its port, for this project.

    Args:
        binary: the program.
        config_file: `llama-swap.yaml`; the key to send is read from it.
        port: where it listens.
        env: its environment, which its model servers inherit.
        instance: the id in that environment.
        pid_file: where its pid file goes; `log` its output and that of its model servers.
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
        self.closing = False
        self.renewing = False

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self._port}"

    @property
    def headers(self) -> dict[str, str]:
        """What it wants with every request."""
        return {"authorization": f"Bearer {self._key}"}

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._child is not None and self._child.exit_code is None

    async def up(self) -> None:
        """Start it where it does not run, and wait until it answers.

        Raises:
            LlmstackError: it cannot be started, with its last lines.
        """
        async with self._starting:
            if self.closing:
                raise LlmstackError("the router is stopping")
            if not self.running:
                await self._start()

    async def _start(self) -> None:
        # Model servers of a llama-swap that was killed hold memory and ports.
        left = await asyncio.to_thread(stop_instance, self._instance, grace_s=LEFTOVER_S)
        if left:
            _log.warning("%d processes of an earlier llama-swap were stopped", left)
        refuse_taken_port(self._port)
        self._key = _key_in(self._config_file)
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
            await self._until_healthy(self._child)
        except BaseException:
            await self._child.stop()
            raise
        _log.info("llama-swap is up (pid %s)", self._child.pid)
        # Asked without the key for a model that does not exist, so that nothing is loaded.
        status, _ = await self.ask("GET", "/upstream/-/health", with_key=False)
        if status not in {0, UNAUTHORIZED}:
            _log.warning("this llama-swap asks for no key below /upstream (%d): update it", status)

    async def _until_healthy(self, child: Child) -> None:
        pause = FIRST_PAUSE_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while child.exit_code is None and not self.closing:
                    # Whoever took the port in the meantime would not know the key.
                    if (await self.ask("GET", "/health"))[0] == OK and await self.models() is not None:
                        return
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LAST_PAUSE_S)
        if self.closing:
            raise LlmstackError("the router is stopping")
        code = child.exit_code
        how = f"was not ready within {READY_S:g} s" if code is None else f"ended (exit code {code})"
        raise LlmstackError(f"llama-swap {how}{shown(child.tail)}", hint=f"see {self.log}")

    @contextlib.asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """Start it anew after the block; until then nobody else starts anything."""
        async with self._starting:
            self.renewing = True
            try:
                yield
                if self._child is not None:
                    await self._child.stop(grace_s=STOP_S)
                if not self.closing:
                    await self._start()
            finally:
                self.renewing = False

    async def ended(self) -> None:
        """Wait until it is gone."""
        if self._child is not None:
            await self._child.wait()

    def last_lines(self) -> list[str]:
        """Return what it and its model servers printed last."""
        return self._child.tail if self._child is not None else []

    async def ask(
        self, method: str, path: str, *, timeout_s: float = PROBE_S, with_key: bool = True
    ) -> tuple[int, str]:
        """Send it a request; return status and text, or 0 and the reason where it cannot be reached."""
        if self.closing and not self.running:
            return 0, "the router is stopping"
        try:
            async with asyncio.timeout(timeout_s):
                status, text = await ask(method, f"{self.url}{path}", self.headers if with_key else {})
        except (UpstreamError, TimeoutError) as error:
            return 0, str(error) or f"no answer within {timeout_s:g} s"
        return status, text.decode(errors="replace")

    async def models(self) -> dict[str, str] | None:
        """Return the state of each model that it runs, as it names it; None where it does not say."""
        status, text = await self.ask("GET", "/running")
        if status != OK:
            return None
        try:
            running: list[dict[str, Any]] = json.loads(text)["running"] or []
            return {str(each["model"]): str(each["state"]) for each in running}
        except (ValueError, KeyError, TypeError):
            return None

    async def words_of(self, model: str) -> list[str]:
        """Return the last lines that a model's server printed."""
        lines = await self._logged(f"/logs/stream/{quote(model, safe='')}") or self.last_lines()
        return of_model_servers(lines)[-SHOWN_LINES:]

    async def _logged(self, path: str) -> list[str]:
        """Read what a log stream has at once."""
        data = b""
        with contextlib.suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(LOGS_S), Upstream() as upstream:
                with await upstream.send("GET", f"{self.url}{path}", self.headers, b"") as answer:
                    if answer.status != OK:
                        return []
                    async for chunk in answer.chunks():
                        data = (data + chunk)[-LOG_BYTES:]
        return data.decode(errors="replace").splitlines()

    async def find(self, tier: str) -> tuple[int | None, int | None]:
        """Return pid and port of a tier's server."""
        if self._child is None:
            return None, None
        return await asyncio.to_thread(_find, self._child.pid, tier)

    async def close(self) -> None:
        """End it and everything it runs, and look that nothing is left."""
        self.closing = True
        async with self._starting:
            if self._child is not None:
                await self._child.stop(grace_s=STOP_S)
                await asyncio.to_thread(stop_instance, self._instance, grace_s=LEFTOVER_S)


def of_model_servers(lines: list[str]) -> list[str]:
    """Return what is no line of llama-swap's own."""
    return [line for line in lines if line.strip() and not _ITS_OWN.match(line)]


def shown(lines: list[str]) -> str:
    """Return lines as they stand below a message."""
    return "".join(f"\n  {line}" for line in lines[-SHOWN_LINES:])


def _key_in(config_file: Path) -> str:
    from ruamel.yaml import YAML  # noqa: PLC0415 - takes 50 ms, and only a stack with llama-swap needs it
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - as above

    try:
        return str(YAML(typ="safe", pure=True).load(config_file.read_text(encoding="utf-8"))["apiKeys"][0])
    except (OSError, YAMLError, KeyError, IndexError, TypeError) as error:
        raise LlmstackError(
            f"{config_file}: expected a configuration of llama-swap written by llmstack: {error}",
            hint="`llmstack restart` writes it anew",
        ) from error


def _find(launcher: int, tier: str) -> tuple[int | None, int | None]:
    """Look below llama-swap for the process that was started for a tier."""
    with contextlib.suppress(psutil.Error, ValueError):
        for process in psutil.Process(launcher).children(recursive=True):
            line = process.cmdline()
            if "--alias" in line and line[line.index("--alias") + 1] == tier and "--port" in line:
                return process.pid, int(line[line.index("--port") + 1])
    return None, None

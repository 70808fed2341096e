"""The server process of one model: start it, wait until it is healthy, stop it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from llmstack.errors import LlmstackError
from llmstack.process.child import Child
from llmstack.upstream.client import UpstreamError, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from llmstack.llama_cpp.binary import EngineBinary
    from llmstack.serving.kv.identity import KvDirectory
    from llmstack.serving.pool.endpoint import Endpoint, Endpoints

_log = logging.getLogger(__name__)

FIRST_PROBE_S, LONGEST_PROBE_S = 0.005, 0.25  # pause between two health checks
PROBE_GROWTH = 1.05
PROBE_TIMEOUT_S = 5.0
EXIT_GRACE_S = 1.0  # between a broken connection and the end of the process
SHOWN_LOG_LINES = 6


class ModelServer(Protocol):
    """A server process of one model, for one start."""

    @property
    def url(self) -> str:
        """Its address."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that it requires with every request."""

    @property
    def pid(self) -> int | None:
        """Its process id once started."""

    @property
    def port(self) -> int | None:
        """The TCP port it listens on once started; None if it listens on a Unix socket."""

    @property
    def kv_directory(self) -> KvDirectory | None:
        """Where it saves the contents of its slots, once started; None if it does not."""

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            LlmstackError: it does not answer; with the last lines of its log.
        """

    async def stop(self) -> None:
        """Stop it; nothing happens if it has ended or was never started."""

    async def wait(self) -> None:
        """Wait until its process has ended."""

    async def failure(self) -> str | None:
        """Return why it ended, or None if it runs; asked shortly after a connection to it broke."""

    async def explain(self, status: int, body: bytes) -> str | None:
        """Return why a proxy in front of it answered in its place; None if it answered itself."""


class LlamaServer:
    """llama.cpp's server for one tier, which answers only to a key of its own.

    Args:
        tier: the tier's name.
        flags: its flags, without those that say where it listens.
        engine: the program that runs it.
        env: its environment.
        endpoints: provides the place where it listens.
        pid_file: path of its pid file; `log` is the path of its log.
        load_s: seconds that it may take to load.
        find_kv_directory: returns where it saves the contents of its slots; called at the start, in a thread,
            since it reads the model file.

    Attributes:
        kv_directory: the result of `find_kv_directory`.
    """

    def __init__(
        self,
        tier: str,
        flags: Sequence[str],
        engine: EngineBinary,
        *,
        env: Mapping[str, str],
        endpoints: Endpoints,
        pid_file: Path,
        log: Path,
        load_s: float = 900.0,
        find_kv_directory: Callable[[], KvDirectory | None] = lambda: None,
    ) -> None:
        self._tier = tier
        self._flags = flags
        self._engine = engine
        key = secrets.token_urlsafe(32)
        self._env = {**env, "LLAMA_API_KEY": key}
        self._headers = {"authorization": f"Bearer {key}"}
        self._endpoints = endpoints
        self._endpoint: Endpoint | None = None
        self._pid_file = pid_file
        self._log = log
        self._load_s = load_s
        self._find_kv_directory = find_kv_directory
        self.kv_directory: KvDirectory | None = None
        self._child: Child | None = None
        self._stopped = False
        self._url = ""

    @property
    def url(self) -> str:
        """Its address; empty before it is started."""
        return self._url

    @property
    def headers(self) -> Mapping[str, str]:
        """The header with its key."""
        return self._headers

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._child.pid if self._child else None

    @property
    def port(self) -> int | None:
        """The TCP port it listens on; None if it listens on a Unix socket."""
        return self._endpoint.port if self._endpoint else None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        try:
            self._refuse_if_stopped()
            slot_flags = await self._slot_flags()
            self._refuse_if_stopped()
            self._endpoint = await self._endpoints.acquire(self, self._engine, self._env)
            self._refuse_if_stopped()
            self._child = await Child.spawn(
                self._engine.argv((*self._flags, *slot_flags, *self._endpoint.flags)),
                env=self._env,
                port=self._endpoint.port,
                pid_file=self._pid_file,
                log=self._log,
            )
            self._url = self._endpoint.url(self._child.pid)
            self._refuse_if_stopped()
            try:
                async with asyncio.timeout(self._load_s):
                    await self._wait_until_healthy(self._child)
            except TimeoutError:
                lines = _last_log_lines(self._child)
                raise LlmstackError(
                    f"{self._tier} was not ready within {self._load_s:g} s{lines}", hint=f"see {self._log}"
                ) from None
        except BaseException:
            await self.stop()
            raise

    async def _slot_flags(self) -> tuple[str, ...]:
        """Return the flags for saving slots; without them the model can serve all the same."""
        try:
            self.kv_directory = await asyncio.to_thread(self._find_kv_directory)
        except (OSError, LlmstackError) as error:
            _log.warning("%s: its prompt caches cannot be saved: %s", self._tier, error)
        return ("--slot-save-path", str(self.kv_directory.path)) if self.kv_directory else ()

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise LlmstackError(f"{self._tier} was stopped while it was starting")

    async def _wait_until_healthy(self, child: Child) -> None:
        delay = FIRST_PROBE_S
        while True:
            if await _answers(f"{self.url}/health"):  # which needs no key
                return
            if child.exit_code is not None:
                raise LlmstackError(await self._describe_end(child), hint=f"see {self._log}")
            await asyncio.sleep(delay)
            delay = min(delay * PROBE_GROWTH, LONGEST_PROBE_S)

    async def _describe_end(self, child: Child) -> str:
        code = await child.wait()
        if self._stopped:
            return f"the model server of {self._tier} was stopped"
        how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        return f"the model server of {self._tier} ended ({how}){_last_log_lines(child)}"

    async def stop(self) -> None:
        """Stop it."""
        self._stopped = True
        if self._child is not None:
            await self._child.stop()
        self._endpoints.release(self, self._endpoint)

    async def wait(self) -> None:
        """Wait until its process has ended."""
        if self._child is not None:
            await self._child.wait()
        self._endpoints.release(self, self._endpoint)

    async def failure(self) -> str | None:
        """Return why it ended, or None if it runs."""
        if self._child is None:
            return None
        try:
            async with asyncio.timeout(EXIT_GRACE_S):
                await self._child.wait()
        except TimeoutError:
            return None
        return await self._describe_end(self._child)

    async def explain(self, status: int, body: bytes) -> str | None:  # noqa: ARG002 - part of the protocol
        """Return None: there is no proxy in front of it."""
        return None


def _last_log_lines(child: Child) -> str:
    lines = [line for line in child.tail if line.strip()]
    # llama.cpp logs from a thread: on a busy machine the reason may come before earlier lines.
    reason = [line for line in lines[:-SHOWN_LOG_LINES] if line.startswith("error: ")][-1:]
    return "".join(f"\n  {line}" for line in reason + lines[-SHOWN_LOG_LINES:])


async def _answers(url: str) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            status, _ = await ask("GET", url)
    except (UpstreamError, TimeoutError):
        return False
    return status == HTTPStatus.OK  # 503 while the model is loading

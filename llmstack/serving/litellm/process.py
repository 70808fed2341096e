"""The LiteLLM process: start it, wait until it is healthy, stop it with its children."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.process.child import Child, format_log_lines
from llmstack.process.leftovers import INSTANCE_VARIABLE, stop_instance
from llmstack.process.ports import require_free_port
from llmstack.serving.litellm.program import HOST, argv
from llmstack.upstream.address import child_url
from llmstack.upstream.client import UpstreamError, ask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

READY_S = 120.0  # 11 s on a laptop; several times that if the disk is slow and models load at the same time
PROBE_S, PAUSE_S = 5.0, 0.1
STOP_S = 6.0  # its launcher kills it after 4 s
LEFTOVER_S = 1.0

_log = logging.getLogger(__name__)


class LitellmProcess:
    """LiteLLM on its port, for this project.

    Args:
        program: the LiteLLM program.
        config_file: `litellm_config.yaml`.
        port: the port it listens on.
        env: its environment.
        key: its master key.
        instance: the id in its environment by which a later router recognises it.
        pid_file: path of its pid file.
        log: path of its log.
    """

    def __init__(
        self,
        program: Path,
        config_file: Path,
        *,
        port: int,
        env: Mapping[str, str],
        key: str,
        instance: str,
        pid_file: Path,
        log: Path,
    ) -> None:
        self._argv = argv(program, config_file, port=port)
        self._port = port
        self._env = {**env, INSTANCE_VARIABLE: instance}
        self._instance = instance
        self._pid_file = pid_file
        self.headers = {"authorization": f"Bearer {key}"}
        self.log = log
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Its address, at which it is sent its key only if it listens there itself."""
        return child_url(self._child.pid if self._child is not None else 0, HOST, self._port)

    @property
    def public_url(self) -> str:
        """Its address for people and other programs."""
        return f"http://{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id of its launcher; None if it does not run."""
        return self._child.pid if self._child is not None and self._child.exit_code is None else None

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            LlmstackError: it cannot be started; with the last lines of its log.
        """
        if await asyncio.to_thread(stop_instance, self._instance, grace_s=LEFTOVER_S):
            _log.warning("stopped a LiteLLM that an earlier router had left running")
        await asyncio.to_thread(require_free_port, HOST, self._port, setting="litellm_port", server="LiteLLM")
        self._child = await Child.spawn(
            self._argv, env=self._env, port=self._port, pid_file=self._pid_file, log=self.log
        )
        try:
            await self._wait_until_healthy(self._child)
        except BaseException:
            await self._child.stop(grace_s=STOP_S)
            raise
        _log.info("LiteLLM is up (pid %s)", self._child.pid)

    async def _wait_until_healthy(self, child: Child) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while child.exit_code is None:
                    if await self._get_status("/v1/models") == HTTPStatus.OK:
                        return
                    await asyncio.sleep(PAUSE_S)
        code = child.exit_code
        how = f"was not ready within {READY_S:g} s" if code is None else f"ended (exit code {code})"
        raise LlmstackError(f"LiteLLM {how}{format_log_lines(self.last_log_lines())}", hint=f"see {self.log}")

    async def _get_status(self, path: str) -> int:
        """Send a GET request and return the status of the response, or 0 if there is none."""
        try:
            async with asyncio.timeout(PROBE_S):
                status, _ = await ask("GET", f"{self.url}{path}", self.headers)
        except (UpstreamError, TimeoutError):
            return 0
        return status

    def last_log_lines(self) -> list[str]:
        """Return the last lines of its output that are not blank."""
        return [line for line in self._child.tail if line.strip()] if self._child is not None else []

    async def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        return await self._child.wait() if self._child is not None else 0

    async def stop(self) -> None:
        """Stop it."""
        if self._child is not None:
            await self._child.stop(grace_s=STOP_S)

"""The LiteLLM process: started, waited for, asked, ended with all it runs."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import math
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.process.child import Child
from llmstack.process.leftovers import INSTANCE_VARIABLE, stop_instance
from llmstack.process.ports import is_free, port_owner
from llmstack.serving.litellm.program import HOST, argv

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OK = 200
READY_S = 120.0  # 11 s on a laptop, several times that where the disk is slow and the models load too
PROBE_S, PAUSE_S = 5.0, 0.1
STOP_S = 6.0  # its launcher kills it after four
LEFTOVER_S = 1.0
SHOWN_LINES = 6

_log = logging.getLogger(__name__)


class LitellmProcess:
    """LiteLLM on its port, for this project.

    Args:
        program: to run.
        config_file: `litellm_config.yaml`.
        port: where it listens.
        env: its environment.
        key: its master key.
        instance: the id in its environment by which it is found again.
        pid_file: where its pid file goes; `log` its output.
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
        """Its address."""
        return f"http://{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """Of the launcher that runs it; None where it does not run."""
        return self._child.pid if self._child is not None and self._child.exit_code is None else None

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            LlmstackError: it cannot be started, with its last lines.
        """
        if await asyncio.to_thread(stop_instance, self._instance, grace_s=LEFTOVER_S):
            _log.warning("a LiteLLM that an earlier router had left was stopped")
        if not is_free(HOST, self._port):
            who = await asyncio.to_thread(port_owner, self._port)
            raise LlmstackError(
                f"port {self._port} for LiteLLM is taken{f' by {who}' if who else ''}",
                hint="stop that program, or set another `litellm_port` in models.ini",
            )
        self._child = await Child.spawn(
            self._argv, env=self._env, port=self._port, pid_file=self._pid_file, log=self.log
        )
        try:
            await self._until_healthy(self._child)
        except BaseException:
            await self._child.stop(grace_s=STOP_S)
            raise
        _log.info("LiteLLM is up (pid %s)", self._child.pid)

    async def _until_healthy(self, child: Child) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while child.exit_code is None:
                    # Asked with the key: whoever took the port in the meantime would not know it.
                    if await asyncio.to_thread(self._ask, "/v1/models") == OK:
                        return
                    await asyncio.sleep(PAUSE_S)
        code = child.exit_code
        how = f"was not ready within {READY_S:g} s" if code is None else f"ended (exit code {code})"
        raise LlmstackError(f"LiteLLM {how}{self.last_words()}", hint=f"see {self.log}")

    def _ask(self, path: str) -> int:
        """Return the status of an answer, 0 where there is none; blocks."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=math.ceil(PROBE_S))
        try:
            connection.request("GET", path, headers=self.headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def last_words(self) -> str:
        """Return what it printed last, as it stands below a message."""
        lines = [line for line in self._child.tail if line.strip()] if self._child is not None else []
        return "".join(f"\n  {line}" for line in lines[-SHOWN_LINES:])

    async def ended(self) -> int:
        """Wait until it is gone; return its exit code."""
        return await self._child.wait() if self._child is not None else 0

    async def stop(self) -> None:
        """End it."""
        if self._child is not None:
            await self._child.stop(grace_s=STOP_S)

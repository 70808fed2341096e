"""LiteLLM tiers: one proxy for all of them, kept running, and the right to use it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Any, Literal

from llmstack.config.model import BackendKind
from llmstack.errors import LlmstackError
from llmstack.process.leftovers import instance_of
from llmstack.serving.base import ModelState, TierUnavailableError
from llmstack.serving.litellm.process import LitellmProcess
from llmstack.serving.litellm.program import environment, find_litellm, master_key, model_name
from llmstack.serving.remote.lease import RemoteLease
from llmstack.serving.sampling import defaults_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import StackConfig, Tier
    from llmstack.paths import Project
    from llmstack.providers.model_aliases import ModelAliases

FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 60.0  # before it is started again
STEADY_S = 60.0  # what ran as long is not taken for something that keeps failing
NAME = "litellm"

Phase = Literal["off", "starting", "up", "failed"]

_log = logging.getLogger(__name__)


class LitellmBackend:
    """Serves every litellm tier. A `Backend`; made inside the event loop.

    Args:
        project: for its configuration, key, pid file and log.
        config: tiers as the running channel has them.
        unavailable: tiers that cannot start.
        env: for the proxy.
        known: what models do not accept.
        router_port: ours, which the proxy must not call.
    """

    def __init__(
        self,
        project: Project,
        config: StackConfig,
        unavailable: Mapping[str, str],
        env: Mapping[str, str],
        known: ModelAliases,
        *,
        router_port: int,
    ) -> None:
        self._project = project
        self._known = known
        self._env = env
        self._port = config.settings.litellm_port
        self._own_ports = {router_port, config.settings.swap_port, self._port}
        self._tiers: dict[str, Tier] = {}
        self._served = b""
        self._process: LitellmProcess | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._phase: Phase = "off"
        self._problem = LlmstackError("LiteLLM is not running")
        self._again_at = 0.0
        self._settled = asyncio.Event()
        self._take(config, unavailable)

    async def acquire(self, tier: str, session: str = "") -> RemoteLease:  # noqa: ARG002 - it keeps none
        """Wait until the proxy is up.

        Raises:
            TierUnavailableError: it cannot be started.
        """
        await self._settled.wait()
        process = self._process
        if self._phase != "up" or process is None or tier not in self._tiers:
            again = None if self._phase == "off" else max(1, math.ceil(self._again_at - time.monotonic()))
            raise TierUnavailableError(self._problem.message, retry_after=again, hint=self._problem.hint)
        return RemoteLease(
            tier,
            model_name(self._tiers[tier]),
            process.url,
            process.headers,
            defaults_of(self._tiers[tier], self._known),
            ended=lambda: None if process.pid is not None else f"LiteLLM ended{process.last_words()}",
        )

    def state(self, tier: str) -> ModelState:  # noqa: ARG002 - one proxy for all
        """Return what is known of a tier: that of the proxy while it is not up."""
        if self._phase == "starting":
            return ModelState("loading")
        if self._phase == "failed":
            hint = f" ({self._problem.hint})" if self._problem.hint else ""
            return ModelState("down", detail=f"{self._problem.message}{hint}")
        return ModelState("remote")

    def status(self) -> dict[str, Any] | None:
        """Return pid, addresses and where the key is; None where nothing is served by it."""
        if self._process is None:
            return None
        return {
            "state": self._phase,
            "pid": self._process.pid,
            "port": self._port,
            "ui": f"{self._process.url}/ui",
            "mcp": f"{self._process.url}/mcp/",
            "key_file": str(self._project.litellm_key),
            "detail": self._problem.message if self._phase == "failed" else "",
        }

    async def reload(self, config: StackConfig, unavailable: Mapping[str, str]) -> list[str]:
        """Take up edited tiers; the proxy is started anew where its configuration changed."""
        served, had = self._served, set(self._tiers)
        self._tiers = _tiers(config, unavailable)
        changed = self._configured() != served
        if self._keeping is not None and (changed or not self._tiers):
            await self._end()
        if self._keeping is None:
            self._take(config, unavailable)
        return ["LiteLLM was started anew, its requests in flight were cut"] if changed and had else []

    def _take(self, config: StackConfig, unavailable: Mapping[str, str]) -> None:
        """Serve these tiers; start where there is one."""
        self._tiers = _tiers(config, unavailable)
        self._served = self._configured()
        if not self._tiers:
            self._settled.set()
            return
        self._enter("starting")
        self._keeping = asyncio.create_task(self._keep())

    def _configured(self) -> bytes:
        try:
            return self._project.litellm_config.read_bytes()
        except OSError:
            return b""

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        if phase == "starting":
            self._settled.clear()
        else:
            self._settled.set()

    async def _keep(self) -> None:
        """Keep the proxy running: what ends is started again, more slowly each time."""
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                problem = await self._run()
            except LlmstackError as error:
                problem = error
            except Exception as error:  # noqa: BLE001 - the router serves the other tiers all the same
                _log.exception("LiteLLM")
                problem = LlmstackError(f"LiteLLM: {error}", hint="see the router's log")
            if time.monotonic() - began > STEADY_S:
                pause = FIRST_PAUSE_S
            _log.error("%s", problem.message)
            self._problem, self._again_at = problem, time.monotonic() + pause
            self._enter("failed")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_S)
            self._enter("starting")

    async def _run(self) -> LlmstackError:
        """Run it once, from its start to its end; return how it ended."""
        process = self._process = self._made()
        try:
            await process.start()
            self._enter("up")
            code = await process.ended()
        finally:
            await process.stop()
        return LlmstackError(
            f"LiteLLM ended (exit code {code}){process.last_words()}", hint=f"see {process.log}"
        )

    def _made(self) -> LitellmProcess:
        program = find_litellm(self._env)
        if program is None:
            raise LlmstackError("LiteLLM is not installed any more")
        key = master_key(self._project.litellm_key)
        return LitellmProcess(
            program,
            self._project.litellm_config,
            port=self._port,
            env=environment(
                self._env,
                master_key=key,
                own_ports=self._own_ports,
                models=[tier.model for tier in self._tiers.values()],
            ),
            key=key,
            instance=instance_of(self._project.state, NAME),
            pid_file=self._project.pid_file(NAME),
            log=self._project.log(NAME),
        )

    async def close(self) -> None:
        """End the proxy."""
        self._tiers = {}
        await self._end()

    async def _end(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
        self._process = None
        self._problem = LlmstackError("LiteLLM is not running")
        self._enter("off")


def _tiers(config: StackConfig, unavailable: Mapping[str, str]) -> dict[str, Tier]:
    return {
        name: tier
        for name, tier in config.tiers.items()
        if tier.backend is BackendKind.LITELLM and name not in unavailable
    }

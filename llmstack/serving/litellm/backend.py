"""The backend of the litellm tiers: one LiteLLM proxy for all of them, restarted if it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmstack.config.model import BackendKind
from llmstack.errors import LlmstackError
from llmstack.process.child import format_log_lines
from llmstack.process.leftovers import instance_id
from llmstack.serving.base import ModelState, SamplingDefaults
from llmstack.serving.errors import TierUnavailableError
from llmstack.serving.http_request import send_to
from llmstack.serving.litellm.process import LitellmProcess
from llmstack.serving.litellm.program import environment, find_litellm, master_key, model_name
from llmstack.serving.remote.base import RemoteBackend, RemoteLease
from llmstack.serving.sampling import sampling_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import StackConfig, Tier
    from llmstack.paths import PrivateFiles, Project
    from llmstack.providers.model_aliases import ModelAliases
    from llmstack.serving.base import ModelRequest, ServerResponse
    from llmstack.serving.memory.survey import Survey
    from llmstack.upstream.client import Upstream

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0  # before a restart
STABLE_S = 60.0  # after running this long, the pause starts from its shortest again
NAME = "litellm"

Phase = Literal["off", "starting", "up", "failed"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LitellmLease(RemoteLease):
    """The right to use a model behind the proxy.

    Attributes:
        upstream: the HTTP client.
        process: the proxy.
        defaults: sampling values of models.ini.
    """

    upstream: Upstream
    process: LitellmProcess
    defaults: SamplingDefaults
    slot: None = None

    @property
    def url(self) -> str:
        """Address of the proxy."""
        return self.process.url

    @property
    def headers(self) -> Mapping[str, str]:
        """The proxy's key."""
        return self.process.headers

    async def send(self, request: ModelRequest) -> ServerResponse:
        """Send a request: the proxy speaks every client's API."""
        return await send_to(self.upstream, self, request)

    async def failure(self) -> str | None:
        """Return why the proxy ended, or None if it still runs."""
        if self.process.pid is not None:
            return None
        return f"LiteLLM ended{format_log_lines(self.process.last_log_lines())}"


class LitellmBackend(RemoteBackend):
    """Serves every litellm tier. A `Backend`; created inside the event loop.

    Args:
        project: provides the paths of the proxy's pid file and log.
        private: provides the paths of its configuration and key.
        config: tiers as the running channel has them.
        unavailable: tiers that cannot start.
        env: environment of the proxy, before it is filtered.
        aliases: short names and limits of models.
        router_port: this router's own port, which the proxy must not call.
        upstream: the HTTP client.
    """

    def __init__(
        self,
        project: Project,
        config: StackConfig,
        unavailable: Mapping[str, str],
        env: Mapping[str, str],
        aliases: ModelAliases,
        *,
        private: PrivateFiles,
        router_port: int,
        upstream: Upstream,
    ) -> None:
        self._project = project
        self._private = private
        self._aliases = aliases
        self._upstream = upstream
        self._env = env
        self._port = config.settings.litellm_port
        self._own_ports = {router_port, config.settings.swap_port, self._port}
        self._tiers: dict[str, Tier] = {}
        self._config_bytes = b""
        self._process: LitellmProcess | None = None
        self._runner: asyncio.Task[None] | None = None
        self._phase: Phase = "off"
        self._problem = LlmstackError("LiteLLM is not running")
        self._retry_at = 0.0
        self._start_finished = asyncio.Event()
        self._serve(config, unavailable)

    async def acquire(
        self,
        tier: str,
        session: str = "",  # noqa: ARG002 - part of the protocol
        *,
        pinned: bool = True,  # noqa: ARG002
    ) -> LitellmLease:
        """Wait until the proxy is up.

        Raises:
            TierUnavailableError: it cannot be started.
        """
        await self._start_finished.wait()
        process = self._process
        if self._phase != "up" or process is None or tier not in self._tiers:
            retry_after = (
                None if self._phase == "off" else max(1, math.ceil(self._retry_at - time.monotonic()))
            )
            raise TierUnavailableError(
                self._problem.message, retry_after=retry_after, hint=self._problem.hint
            )
        return LitellmLease(
            tier=tier,
            model=model_name(self._tiers[tier]),
            upstream=self._upstream,
            process=process,
            defaults=sampling_defaults(self._tiers[tier], self._aliases),
        )

    def state(self, tier: str) -> ModelState:  # noqa: ARG002 - one proxy for all
        """Return what is known of a tier: the state of the proxy while it is not up."""
        if self._phase == "starting":
            return ModelState("loading")
        if self._phase == "failed":
            hint = f" ({self._problem.hint})" if self._problem.hint else ""
            return ModelState("down", detail=f"{self._problem.message}{hint}")
        return ModelState("remote")

    def status(self) -> dict[str, Any] | None:
        """Return the proxy's state, addresses and the path of its key; None if it serves no tier."""
        if self._process is None:
            return None
        return {
            "state": self._phase,
            "pid": self._process.pid,
            "port": self._port,
            "ui": f"{self._process.public_url}/ui",
            "mcp": f"{self._process.public_url}/mcp/",
            "key_file": str(self._private.litellm_key),
            "detail": self._problem.message if self._phase == "failed" else "",
        }

    async def reload(self, config: StackConfig, survey: Survey) -> list[str]:
        """Apply edited tiers; the proxy is restarted if its configuration changed."""
        previous, had_tiers = self._config_bytes, bool(self._tiers)
        self._tiers = _litellm_tiers(config, survey.unavailable)
        changed = self._read_config() != previous
        if self._runner is not None and (changed or not self._tiers):
            await self._stop()
        if self._runner is None:
            self._serve(config, survey.unavailable)
        return ["LiteLLM was restarted, its requests in flight were cut"] if changed and had_tiers else []

    def _serve(self, config: StackConfig, unavailable: Mapping[str, str]) -> None:
        """Serve these tiers; start the proxy if there is one."""
        self._tiers = _litellm_tiers(config, unavailable)
        self._config_bytes = self._read_config()
        if not self._tiers:
            self._start_finished.set()
            return
        self._set_phase("starting")
        self._runner = asyncio.create_task(self._keep_running())

    def _read_config(self) -> bytes:
        """Return everything that the proxy loads, to notice a change."""
        files = sorted(path for path in self._private.litellm_dir.rglob("*") if path.is_file())
        return b"".join(os.fsencode(path) + path.read_bytes() for path in files)

    def _set_phase(self, phase: Phase) -> None:
        self._phase = phase
        if phase == "starting":
            self._start_finished.clear()
        else:
            self._start_finished.set()

    async def _keep_running(self) -> None:
        """Restart the proxy whenever it ends, after a longer pause each time."""
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                problem = await self._run()
            except LlmstackError as error:
                problem = error
            except Exception as error:  # noqa: BLE001 - a defect here must not stop the other tiers
                _log.exception("running LiteLLM failed")
                problem = LlmstackError(f"LiteLLM: {error}", hint="see the router's log")
            if time.monotonic() - began > STABLE_S:
                pause = FIRST_PAUSE_S
            _log.error("%s", problem.message)
            self._problem, self._retry_at = problem, time.monotonic() + pause
            self._set_phase("failed")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            self._set_phase("starting")

    async def _run(self) -> LlmstackError:
        """Start the proxy, wait until it ends, and return the error that says how it ended."""
        process = self._process = self._create_process()
        try:
            await process.start()
            self._set_phase("up")
            code = await process.wait()
        finally:
            await process.stop()
        return LlmstackError(
            f"LiteLLM ended (exit code {code}){format_log_lines(process.last_log_lines())}",
            hint=f"see {process.log}",
        )

    def _create_process(self) -> LitellmProcess:
        program = find_litellm(self._env)
        if program is None:
            raise LlmstackError("LiteLLM is no longer installed")
        key = master_key(self._private.litellm_key)
        return LitellmProcess(
            program,
            self._private.litellm_config,
            port=self._port,
            env=environment(
                self._env,
                master_key=key,
                own_ports=self._own_ports,
                models=[tier.model for tier in self._tiers.values()],
            ),
            key=key,
            instance=instance_id(self._project.state, NAME),
            pid_file=self._project.pid_file(NAME),
            log=self._project.log(NAME),
        )

    async def close(self) -> None:
        """Stop the proxy."""
        self._tiers = {}
        await self._stop()

    async def _stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await runner
        self._process = None
        self._problem = LlmstackError("LiteLLM is not running")
        self._set_phase("off")


def _litellm_tiers(config: StackConfig, unavailable: Mapping[str, str]) -> dict[str, Tier]:
    return {
        name: tier
        for name, tier in config.tiers.items()
        if tier.backend is BackendKind.LITELLM and name not in unavailable
    }

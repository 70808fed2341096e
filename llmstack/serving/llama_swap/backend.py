"""llama-swap as the swapper: llama-swap runs the model servers, the pool decides which ones run when.

Both swappers follow the same rules: the pool's queues, turns and leases. To the pool, a tier behind
llama-swap is a model server like any other: a request for its health starts it, and unloading stops it.
llama-swap's own matrix applies to clients that use its port directly; models that it stops for them are
noticed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from llmstack.config.model import Role
from llmstack.errors import LlmstackError
from llmstack.process.child import format_log_lines
from llmstack.serving.pool.pool import Pool
from llmstack.serving.pool.pool_config import pool_config_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import StackConfig
    from llmstack.serving.base import ModelState
    from llmstack.serving.kv.identity import KvDirectory
    from llmstack.serving.llama_swap.process import LlamaSwapProcess
    from llmstack.serving.memory.survey import Survey
    from llmstack.serving.pool.lease import PoolLease, ReadLease
    from llmstack.upstream.client import Upstream

LOAD_S = 930.0  # longer than llama-swap's own healthCheckTimeout, whose error says more
STOP_S = 20.0
ERROR_CHARS = 500  # of a response, in a message
POLL_S, FAST_POLL_S = 0.5, 0.05
EXIT_GRACE_S = 1.0  # between a broken connection and the end of the process
DRAIN_S = 60.0  # how long a reload waits for requests in flight
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 60.0  # before a restart
STABLE_S = 60.0  # after running this long, the pause starts from its shortest again

_OWN_ERRORS = (b"llama-swap", b"unspecific error", b"upstream command")  # in errors of llama-swap itself

_log = logging.getLogger(__name__)


class LlamaSwapServer:
    """The server of one tier behind llama-swap, for one start. A `ModelServer`."""

    def __init__(self, tier: str, swap: LlamaSwapProcess) -> None:
        self._tier = tier
        self._swap = swap
        self._path = f"/upstream/{quote(tier, safe='')}"  # llama-swap passes every path below to the server
        self._stopped = False
        self.pid: int | None = None
        self.port: int | None = None
        # None: llama-swap stops servers without notice, so that nothing could be saved.
        self.kv_directory: KvDirectory | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self._swap.url}{self._path}"

    @property
    def headers(self) -> Mapping[str, str]:
        """The header with llama-swap's key."""
        return self._swap.headers

    async def start(self) -> None:
        """Make llama-swap load it, and wait until it answers."""
        await self._swap.ensure_running()
        if not self._stopped:
            status, text = await self._swap.request("GET", f"{self._path}/health", timeout_s=LOAD_S)
        if self._stopped:
            raise LlmstackError(f"{self._tier} was stopped while it was starting")
        if status != HTTPStatus.OK:
            log_lines = await self._swap.model_log_lines(self._tier)
            reason = format_log_lines(log_lines) or f"\n  {text.strip()[:ERROR_CHARS]}"
            raise LlmstackError(
                f"the model server of {self._tier} did not start{reason}", hint=f"see {self._swap.log}"
            )
        self.pid, self.port = await self._swap.find_server(self._tier)
        if self.port is None or not await self._swap.holds_port(self.port):
            await self.stop()
            port = f" {self.port}" if self.port else ""
            raise LlmstackError(
                f"the port{port} of {self._tier} was taken by another process",
                hint="stop that process, or set another `start_port` in models.ini, and restart",
            )

    async def stop(self) -> None:
        """Make llama-swap unload it, and wait until it has ended."""
        self._stopped = True
        if self._swap.is_closing or not self._swap.is_running:
            return  # its process ends with llama-swap
        await self._swap.request("POST", f"/api/models/unload/{quote(self._tier, safe='')}", timeout_s=STOP_S)
        try:
            async with asyncio.timeout(STOP_S):
                await self._wait_until_ended(FAST_POLL_S)
        except TimeoutError:
            _log.error("llama-swap did not unload %s within %g s", self._tier, STOP_S)

    async def wait(self) -> None:
        """Wait until it has ended, whoever stopped it."""
        await self._wait_until_ended(POLL_S)

    async def _wait_until_ended(self, pause_s: float) -> None:
        while self._swap.is_running and await self._may_run():  # noqa: ASYNC110 - llama-swap sends no events
            await asyncio.sleep(pause_s)

    async def _may_run(self) -> bool:
        """Return whether llama-swap runs it, or does not say."""
        states = await self._swap.model_states()
        return states is None or states.get(self._tier, "stopped") not in {"stopped", "shutdown", "failed"}

    async def failure(self) -> str | None:
        """Return why it ended, or None if it runs."""
        try:
            async with asyncio.timeout(EXIT_GRACE_S):
                await self._wait_until_ended(FAST_POLL_S)
        except TimeoutError:
            return None
        if not self._swap.is_running:
            return f"llama-swap ended{format_log_lines(self._swap.last_log_lines())}"
        log_lines = await self._swap.model_log_lines(self._tier)
        return f"the model server of {self._tier} ended{format_log_lines(log_lines)}"

    async def explain(self, status: int, body: bytes) -> str | None:
        """Return why llama-swap answered in place of the model server; None if the server answered itself."""
        if status != HTTPStatus.BAD_GATEWAY and not any(text in body for text in _OWN_ERRORS):
            return None
        reason = await self.failure()
        if reason is not None:
            return reason
        error = body.decode(errors="replace").strip()[:ERROR_CHARS]
        return f"llama-swap could not reach the model server of {self._tier}{f': {error}' if error else ''}"


class LlamaSwapBackend:
    """Serves every gguf tier through llama-swap. A `Swapper`; created inside the event loop.

    Args:
        swap: the llama-swap process, not yet started.
        config: tiers as the running channel has them.
        survey: what this machine can serve.
        upstream: the HTTP client.
    """

    kind: Literal["llama-swap"] = "llama-swap"
    loads_models = True

    def __init__(
        self, swap: LlamaSwapProcess, config: StackConfig, survey: Survey, upstream: Upstream
    ) -> None:
        self._swap = swap
        self._preload_tier = _find_preload_tier(config, survey)
        self._pool = Pool(pool_config_for(self._create_server, config, survey), upstream)
        self._runner = asyncio.create_task(self._keep_running())

    def _create_server(self, tier: str) -> LlamaSwapServer:
        return LlamaSwapServer(tier, self._swap)

    async def _keep_running(self) -> None:
        """Restart llama-swap whenever it ends, and load the tier that is loaded at the start again."""
        pause = FIRST_PAUSE_S
        while not self._swap.is_closing:
            started = time.monotonic()
            try:
                await self._swap.ensure_running()
                if self._preload_tier is not None:
                    await self._pool.load(self._preload_tier)
            except LlmstackError as error:
                # The next request tries again, and its error says why if that fails.
                _log.error("llama-swap: %s", error.message)
            if not self._swap.is_running:
                return
            await self._swap.wait()
            if not self._swap.is_closing and not self._swap.is_restarting:
                log_lines = format_log_lines(self._swap.last_log_lines())
                _log.error("llama-swap ended unexpectedly%s", log_lines)
                is_stable = time.monotonic() - started > STABLE_S
                pause = FIRST_PAUSE_S if is_stable else min(2 * pause, LONGEST_PAUSE_S)
                await asyncio.sleep(pause)

    @property
    def prompt_cache(self) -> str:
        """What happens to prompt caches when a model is unloaded, in words."""
        return "not saved: llama-swap stops models without notice; `swapper = builtin` saves prompt caches"

    async def acquire(self, tier: str, session: str = "", *, pinned: bool = True) -> PoolLease:
        """Wait until a tier is loaded and has a free slot, and return the right to use it."""
        self._resume_restarts()
        return await self._pool.acquire(tier, session, pinned=pinned)

    async def acquire_loaded(self, tier: str) -> ReadLease:
        """Return the right to read from a model that is loaded."""
        return await self._pool.acquire_loaded(tier)

    def _resume_restarts(self) -> None:
        """Keep llama-swap running again, after `_keep_running` gave up because it could not be started."""
        if self._runner.done() and not self._swap.is_closing:
            self._runner = asyncio.create_task(self._keep_running())

    def states(self) -> Mapping[str, ModelState]:
        """Return the state of every tier."""
        return self._pool.states()

    def state(self, tier: str) -> ModelState:
        """Return the state of one tier."""
        return self._pool.state(tier)

    def status(self) -> None:
        """Return None: there is nothing to say besides the states of the tiers."""

    def has_free_slot(self, tier: str) -> bool:
        """Return whether a tier would serve a request at once."""
        return self._pool.has_free_slot(tier)

    def loaded_tiers(self) -> frozenset[str]:
        """Return the tiers whose models are loaded, or are being loaded."""
        return self._pool.loaded_tiers()

    async def load(self, tier: str) -> None:
        """Load a tier's model without a request."""
        self._resume_restarts()
        await self._pool.load(tier)

    async def unload(self, tier: str) -> bool:
        """Unload a tier's model once its requests have ended; return False if it was not loaded."""
        return await self._pool.unload(tier)

    async def reload(self, config: StackConfig, survey: Survey) -> list[str]:
        """Apply an edited configuration; return in words which requests had to be cut.

        llama-swap's own reload would stop every model at once. Instead, requests in flight get some time to
        finish, and llama-swap is restarted. Requests that arrive meanwhile wait.
        """
        async with self._swap.restarting():
            self._pool.replace(
                pool_config_for(self._create_server, config, survey), changed=[*self._pool.states()]
            )
            self._preload_tier = _find_preload_tier(config, survey)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    while not self._swap.is_closing and await self._swap.model_states():  # noqa: ASYNC110 - as above
                        await asyncio.sleep(FAST_POLL_S)
            leases = {tier: state.leases for tier, state in self._pool.states().items() if state.leases}
        return [f"{count} requests of {tier}, after {DRAIN_S:g} s" for tier, count in leases.items()]

    async def close(self) -> None:
        """Stop llama-swap with all its model servers."""
        self._swap.is_closing = True
        self._runner.cancel()
        closing = asyncio.create_task(self._pool.close())
        await self._swap.close()
        await closing
        await asyncio.wait([self._runner])


def _find_preload_tier(config: StackConfig, survey: Survey) -> str | None:
    """Return the tier to load whenever llama-swap has started: the one of role fast, if it can start."""
    fast = config.by_role(Role.FAST)
    usable = fast is not None and fast.name in survey.plan.needs and fast.name not in survey.unavailable
    return fast.name if fast is not None and usable else None

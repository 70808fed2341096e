"""llama-swap as the swapper: it runs the model servers, the pool decides which of them and when.

One set of rules for both swappers: the pool's queues, patience and leases. To the pool, a tier behind
llama-swap is a model server like any other, which is started by asking for its health and stopped by
unloading it. llama-swap's own matrix holds for whoever uses its port directly; what it stops then is
noticed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from llmstack.config.model import Role
from llmstack.errors import LlmstackError
from llmstack.serving.llama_swap.process import shown
from llmstack.serving.pool.pool import Pool
from llmstack.serving.pool.pool_config import pool_config_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import StackConfig
    from llmstack.serving.base import ModelState
    from llmstack.serving.kv.identity import KvDirectory
    from llmstack.serving.llama_swap.process import LlamaSwapProcess
    from llmstack.serving.memory.survey import Survey
    from llmstack.serving.pool.lease import PoolLease
    from llmstack.upstream.client import Upstream

OK, BAD_GATEWAY = 200, 502
LOAD_S = 930.0  # longer than llama-swap's own healthCheckTimeout, which tells more
STOP_S = 20.0
WATCH_S, SOON_S = 0.5, 0.05
GRACE_S = 1.0
DRAIN_S = 60.0  # a reload waits so long for requests in flight
RESTART_S, STEADY_S = 0.25, 60.0

_SIGNS = (b"llama-swap", b"unspecific error", b"upstream command")  # of an error that is llama-swap's own

_log = logging.getLogger(__name__)


class LlamaSwapServer:
    """One tier's server, for one start, behind llama-swap. A `ModelServer`."""

    def __init__(self, tier: str, swap: LlamaSwapProcess) -> None:
        self._tier = tier
        self._swap = swap
        self._path = f"/upstream/{quote(tier, safe='')}"  # every path of the engine, decided by this name
        self._stopped = False
        self.pid: int | None = None
        self.port: int | None = None
        self.kv_directory: KvDirectory | None = (
            None  # llama-swap stops servers without notice: nothing is saved
        )

    @property
    def url(self) -> str:
        """Where requests to it go."""
        return f"{self._swap.url}{self._path}"

    @property
    def headers(self) -> Mapping[str, str]:
        """llama-swap's key."""
        return self._swap.headers

    async def start(self) -> None:
        """Have it loaded, and wait until it answers."""
        await self._swap.up()
        if not self._stopped:
            status, text = await self._swap.ask("GET", f"{self._path}/health", timeout_s=LOAD_S)
        if self._stopped:
            raise LlmstackError(f"{self._tier} was stopped while it was starting")
        if status != OK:
            words = shown(await self._swap.words_of(self._tier)) or f"\n  {text.strip()[:500]}"
            raise LlmstackError(
                f"the model server of {self._tier} did not start{words}", hint=f"see {self._swap.log}"
            )
        self.pid, self.port = await self._swap.find(self._tier)

    async def stop(self) -> None:
        """Have it unloaded, and wait until it is gone."""
        self._stopped = True
        if self._swap.closing or not self._swap.running:
            return  # the whole of llama-swap goes
        await self._swap.ask("POST", f"/api/models/unload/{quote(self._tier, safe='')}", timeout_s=STOP_S)
        try:
            async with asyncio.timeout(STOP_S):
                await self._until_gone(SOON_S)
        except TimeoutError:
            _log.error("llama-swap still runs %s %g s after it was told to unload it", self._tier, STOP_S)

    async def wait(self) -> None:
        """Wait until it has ended, whoever stopped it."""
        await self._until_gone(WATCH_S)

    async def _until_gone(self, pause_s: float) -> None:
        while self._swap.running and await self._is_there():  # noqa: ASYNC110 - llama-swap is asked
            await asyncio.sleep(pause_s)

    async def _is_there(self) -> bool:
        models = await self._swap.models()
        return models is None or models.get(self._tier, "stopped") not in {"stopped", "shutdown", "failed"}

    async def failure(self) -> str | None:
        """Return why it ended; None while it runs."""
        try:
            async with asyncio.timeout(GRACE_S):
                await self._until_gone(SOON_S)
        except TimeoutError:
            return None
        if not self._swap.running:
            return f"llama-swap ended{shown(self._swap.last_lines())}"
        return f"the model server of {self._tier} ended{shown(await self._swap.words_of(self._tier))}"

    async def explain(self, status: int, body: bytes) -> str | None:
        """Return why, where llama-swap answered instead of the model server."""
        if status != BAD_GATEWAY and not any(sign in body for sign in _SIGNS):
            return None
        why = await self.failure()
        if why is not None:
            return why
        said = body.decode(errors="replace").strip()[:500]
        return f"llama-swap could not reach the model server of {self._tier}" + (f": {said}" if said else "")


class LlamaSwapBackend:
    """The swapper over a llama-swap process. Made inside the event loop.

    Args:
        swap: the process, not yet started.
        config: tiers as the running channel has them.
        found: what this machine can serve.
        upstream: the HTTP client.
    """

    kind: Literal["llama-swap"] = "llama-swap"

    loads_models = True

    def __init__(
        self, swap: LlamaSwapProcess, config: StackConfig, found: Survey, upstream: Upstream
    ) -> None:
        self._swap = swap
        self._preloaded = _preloaded(config, found)
        self._pool = Pool(pool_config_for(self._server, config, found), upstream)
        self._watching = asyncio.create_task(self._watch())

    def _server(self, tier: str) -> LlamaSwapServer:
        return LlamaSwapServer(tier, self._swap)

    async def _watch(self) -> None:
        """Keep llama-swap running, and the tier resident that is to be so from the start."""
        pause = RESTART_S
        while not self._swap.closing:
            began = time.monotonic()
            try:
                await self._swap.up()
                if self._preloaded is not None:
                    await self._pool.load(self._preloaded)
            except LlmstackError as error:
                # The next request tries again, and is told why.
                _log.error("llama-swap: %s", error.message)
            if not self._swap.running:
                return
            await self._swap.ended()
            if not self._swap.closing and not self._swap.renewing:
                _log.error("llama-swap ended unexpectedly%s", shown(self._swap.last_lines()))
                # Longer each time, unless it ran for a while.
                pause = RESTART_S if time.monotonic() - began > STEADY_S else min(2 * pause, STEADY_S)
                await asyncio.sleep(pause)

    @property
    def prompt_cache(self) -> str:
        """They are lost."""
        return "not saved: llama-swap stops models as they are; `swapper = builtin` saves what they have read"

    async def acquire(self, tier: str, session: str = "", *, pinned: bool = True) -> PoolLease:
        """Wait until a tier is resident and has a place, and return the right to use it."""
        self._look_after()
        return await self._pool.acquire(tier, session, pinned=pinned)

    def _look_after(self) -> None:
        """Watch over llama-swap again, after it could not be started."""
        if self._watching.done() and not self._swap.closing:
            self._watching = asyncio.create_task(self._watch())

    def states(self) -> Mapping[str, ModelState]:
        """Return the state of every tier."""
        return self._pool.states()

    def state(self, tier: str) -> ModelState:
        """Return the state of one tier."""
        return self._pool.state(tier)

    def status(self) -> None:
        """Return None: the states of the tiers say everything."""

    def has_free_slot(self, tier: str) -> bool:
        """Return whether a tier would serve a request at once."""
        return self._pool.has_free_slot(tier)

    def loaded_tiers(self) -> frozenset[str]:
        """Return the tiers whose models are loaded, or are being loaded."""
        return self._pool.loaded_tiers()

    async def load(self, tier: str) -> None:
        """Make a tier resident without a request."""
        self._look_after()
        await self._pool.load(tier)

    async def unload(self, tier: str) -> bool:
        """Stop a tier once its requests have ended."""
        return await self._pool.unload(tier)

    async def reload(self, config: StackConfig, found: Survey) -> list[str]:
        """Take up a configuration that was written anew.

        On its own signal llama-swap would stop every model at once. Instead its models finish what they are
        at, for a bounded time, and it is started anew; requests that come meanwhile wait.
        """
        async with self._swap.renewed():
            self._pool.replace(pool_config_for(self._server, config, found), changed=[*self._pool.states()])
            self._preloaded = _preloaded(config, found)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    while not self._swap.closing and await self._swap.models():  # noqa: ASYNC110 - it is asked
                        await asyncio.sleep(SOON_S)
            busy = {tier: state.leases for tier, state in self._pool.states().items() if state.leases}
        return [f"{count} requests of {tier}, after {DRAIN_S:g} s" for tier, count in busy.items()]

    async def close(self) -> None:
        """Stop llama-swap and everything it runs."""
        self._swap.closing = True
        self._watching.cancel()
        closing = asyncio.create_task(self._pool.close())
        await self._swap.close()
        await closing
        await asyncio.wait([self._watching])


def _preloaded(config: StackConfig, found: Survey) -> str | None:
    """Return the tier that is loaded whenever llama-swap has started."""
    fast = config.by_role(Role.FAST)
    usable = fast is not None and fast.name in found.plan.needs and fast.name not in found.unavailable
    return fast.name if fast is not None and usable else None

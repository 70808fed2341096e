"""The built-in swapper: one model server process per resident model, started and stopped on demand.

What to do is decided by `schedule`; this carries it out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Literal

from llmstack.errors import LlmstackError
from llmstack.serving.base import ModelState
from llmstack.serving.errors import TierUnavailableError
from llmstack.serving.kv.cache import ModelKv
from llmstack.serving.kv.llama_cpp_slots import LlamaCppSlots
from llmstack.serving.pool.lease import PoolLease
from llmstack.serving.pool.loaded_model import LoadedModel
from llmstack.serving.pool.pool_config import PoolConfig, PoolLimits
from llmstack.serving.pool.queue import Queue, Request
from llmstack.serving.pool.scheduler import schedule
from llmstack.serving.pool.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from llmstack.serving.kv.files import KvFiles
    from llmstack.serving.pool.loaded_model import Grant
    from llmstack.serving.pool.model_server import ModelServer
    from llmstack.upstream.client import Upstream

_log = logging.getLogger(__name__)

SHORTEST_NAP_S = 0.001  # event loops count in milliseconds and may be early by a part of one


class Pool:
    """The built-in pool.

    Args:
        terms: what it serves.
        upstream: the HTTP client for its leases.
        limits: bounds of its queues.
        kv_files: where prompt caches are saved; None where they are not.
        clock: monotonic seconds.
    """

    kind: Literal["builtin"] = "builtin"
    loads_models = True

    def __init__(
        self,
        terms: PoolConfig,
        upstream: Upstream,
        *,
        limits: PoolLimits | None = None,
        kv_files: KvFiles | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terms = self._target = terms
        self._upstream = upstream
        self._limits = limits or PoolLimits()
        self._kv_files = kv_files
        self._clock = clock
        self._models: dict[str, LoadedModel] = {}
        self._loaded: frozenset[str] = frozenset()  # of them: asked for with every request
        self._queue = Queue(self._limits.queue)
        self._failures: dict[str, str] = {}
        self._loads: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf
        self._warned: set[str] = set()  # of their size, since the terms are these
        self._closing = False

    async def acquire(self, tier: str, session: str = "", *, pinned: bool = True) -> PoolLease:
        """Wait until a tier is resident and has a free slot, and return the right to use it."""
        if self._closing:
            raise TierUnavailableError("the router is stopping", retry_after=5)
        if tier not in self._target.plan.needs:
            raise TierUnavailableError(f"{tier} has no model to load: it is served elsewhere")
        if self.has_free_slot(tier):
            granted = self._models[tier].grant(session)
        else:
            granted = await self._granted(Request(tier, self._clock(), session))
        lease = PoolLease(self._release, self._upstream, tier, session, granted, pinned=pinned)
        await lease.prepare()
        return lease

    def has_free_slot(self, tier: str) -> bool:
        """Return whether `schedule` would grant a request now: nobody waits, nothing is to be decided."""
        model = self._models.get(tier)
        return model is not None and model.free and not self._queue

    async def _granted(self, request: Request) -> Grant:
        """Wait in the queue until a request is granted."""
        number = self._queue.join(request)
        try:
            self._act()
            async with asyncio.timeout(self._limits.wait_s):
                await asyncio.wait([request.granted])
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if (granted := request.lease) is not None:  # in the same moment: it must not be lost
                model, slot = granted
                model.slots.give_back(slot, served=False)
                self._release(request.tier, model)
            raise
        finally:
            if self._queue.leave(number):
                self._act()
        if not request.granted.done():
            raise TierUnavailableError(
                f"{request.tier} did not become free within {self._limits.wait_s:g} s", retry_after=30
            )
        return request.granted.result()

    def _release(self, tier: str, model: LoadedModel) -> None:
        """Take a lease back."""
        model.leases -= 1
        model.last_used = self._clock()
        # Else there is nothing to decide: nobody waits, and it is looked again before this one expires.
        ttl = self._terms.ttls.get(tier, 0)  # it may have ended, and be gone
        expires = 0 < ttl < self._wakes_at - model.last_used
        if self._queue or model.unwanted or expires or self._terms is not self._target:
            self._act()

    def states(self) -> dict[str, ModelState]:
        """Return the state of every tier."""
        return {tier: self._state(tier) for tier in self._terms.plan.needs}

    def state(self, tier: str) -> ModelState:
        """Return the state of one tier."""
        return self._state(tier)

    def status(self) -> None:
        """Return None: the states of the tiers say everything."""

    def loaded_tiers(self) -> frozenset[str]:
        """Return the tiers whose models are loaded, or are being loaded."""
        return self._loaded

    def _note_loaded(self) -> None:
        """Note which models are loaded, after one was started or is stopping."""
        self._loaded = frozenset(tier for tier, model in self._models.items() if model.state != "stopping")

    def _state(self, tier: str) -> ModelState:
        model, waiting, loads = self._models.get(tier), self._queue.waiting(tier), self._loads[tier]
        if model is not None:
            return model.shown(now=self._clock(), waiting=waiting, loads=loads)
        failure = self._failures.get(tier)
        return ModelState("down" if failure else "idle", waiting=waiting, loads=loads, detail=failure or "")

    async def load(self, tier: str) -> None:
        """Make a tier resident without a request."""
        model = self._models.get(tier)
        if model is None or model.state != "ready" or model.unwanted:
            async with await self.acquire(tier):
                pass

    async def unload(self, tier: str) -> bool:
        """Stop a tier once its requests have ended, and wait until it has."""
        model = self._models.get(tier)
        if model is None:
            return False
        model.unwanted = True
        self._act()
        await model.gone.wait()
        return True

    def replace(self, terms: PoolConfig, *, changed: Collection[str]) -> None:
        """Serve other tiers from now on, or the same ones otherwise; no request is dropped.

        Args:
            terms: as for the pool itself.
            changed: tiers whose running server is no longer the right one: it ends once its requests have.
        """
        old, self._target = self._terms, terms
        self._warned.clear()
        for tier, model in self._models.items():
            model.unwanted = model.unwanted or tier in changed
        # Who still waits for a tier that is gone was promised it: it is served, and forgotten afterwards.
        left = self._models.keys() | self._queue.tiers()
        self._terms = self._target.beside(
            old,
            gone=[tier for tier in left if tier not in terms.plan.needs],
            outdated=[tier for tier, model in self._models.items() if model.unwanted],
        )
        self._act()

    def _settle(self) -> None:
        """Let go of what an exchange of terms has left, once nobody needs it."""
        waited_for = self._queue.tiers()
        gone = [tier for tier in self._models.keys() | waited_for if tier not in self._target.plan.needs]
        for tier in gone:
            if tier in self._models:
                self._models[tier].unwanted = tier not in waited_for
        if not gone and not any(model.unwanted for model in self._models.values()):
            self._terms = self._target

    async def close(self) -> None:
        """Refuse what waits and stop every model at once."""
        self._closing = True
        self._wake_at(None)
        self._queue.close(TierUnavailableError("the router is stopping", retry_after=5))
        for tier, model in self._models.items():
            if model.state != "stopping":
                self._stop(tier, model)
        while self._tasks:
            await asyncio.wait(self._tasks)

    # Deciding and acting

    def _act(self) -> None:
        """Carry out what `schedule` says of the present state."""
        if self._closing:
            return
        if self._terms is not self._target:
            self._settle()
        now = self._clock()
        actions = schedule(
            {tier: model.running(self._terms.ttls[tier]) for tier, model in self._models.items()},
            self._queue.waiters(),
            self._terms.plan,
            now=now,
            patience=self._limits.patience_s,
        )
        for number in actions.grants:
            self._queue.grant(number, self._models)
        for tier in actions.stops:
            self._stop(tier, self._models[tier])
        for tier in actions.starts:
            try:
                model = LoadedModel(self._terms.servers(tier), now, Slots(self._terms.slots[tier]))
            except LlmstackError as error:
                self._refuse(tier, error)
            else:
                self._models[tier] = model
                self._note_loaded()
                self._spawn(self._run(tier, model))
        self._wake_at(actions.wake_at)
        if any(tier not in self._models for tier in actions.starts):
            self._act()  # those who waited for it were refused, others may have its place

    def _wake_at(self, at: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        self._wakes_at = math.inf if at is None else at
        if at is not None:
            delay = max(SHORTEST_NAP_S, at - self._clock())
            self._wake = asyncio.get_running_loop().call_later(delay, self._act)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # One model's life

    async def _run(self, tier: str, model: LoadedModel) -> None:
        """Start a model, keep it until its process ends, then forget it."""
        error: LlmstackError | None = None
        try:
            await self._start(tier, model)
            await model.server.ended()
            self._forget(tier, model)
            if model.state == "ready":
                _log.error("%s ended unexpectedly: %s", tier, await model.server.failure())
        except LlmstackError as failure:
            error = failure
        except Exception:  # noqa: BLE001 - a bug must not leave hanging those who wait
            _log.exception("running %s", tier)
            error = LlmstackError(f"{tier} cannot start: internal error, see the router's log")
        if error is not None and model.state == "starting":
            self._refuse(tier, error)
        self._forget(tier, model)

    def _forget(self, tier: str, model: LoadedModel) -> None:
        if not model.gone.is_set():
            model.gone.set()
            del self._models[tier]
            self._note_loaded()
            self._act()

    async def _start(self, tier: str, model: LoadedModel) -> None:
        plan = self._terms.plan
        if plan.exceeds(tier) and tier not in self._warned:
            self._warned.add(tier)
            _log.warning(
                "%s needs %.1f GB, more than the whole budget of %.1f GB; it is loaded by itself: %s",
                tier,
                plan.needs[tier] / 1024**3,
                plan.budget / 1024**3,
                plan.advice.get(tier, "raise `memory_gb`"),
            )
        await model.server.start()
        if model.state != "starting":
            return  # it is being stopped already
        self._failures.pop(tier, None)
        self._loads[tier] += 1
        model.load_s = self._clock() - model.since
        model.kv = self._kv_of(tier, model.server)
        model.enter("ready", self._clock())
        _log.info("%s is resident after %.2f s (pid %s)", tier, model.load_s, model.server.pid)
        self._act()

    def _stop(self, tier: str, model: LoadedModel) -> None:
        """Begin to stop a model; its place is free once it is gone."""
        model.enter("stopping", self._clock())
        self._note_loaded()
        self._spawn(self._stopped(tier, model))

    async def _stopped(self, tier: str, model: LoadedModel) -> None:
        try:
            await model.stop()
        except Exception:  # noqa: BLE001 - a bug in stopping one must not keep the others from being stopped
            _log.exception("stopping %s", tier)
        else:
            _log.info("%s was stopped", tier)

    def _kv_of(self, tier: str, server: ModelServer) -> ModelKv | None:
        if self._kv_files is None or server.place is None:
            return None
        return ModelKv(tier, LlamaCppSlots(server.url, server.headers), server.place, self._kv_files)

    def _refuse(self, tier: str, error: LlmstackError) -> None:
        """Answer everybody who waits for a tier that could not start; the next request tries again."""
        self._failures[tier] = error.message
        _log.error("%s cannot start: %s", tier, error.message)
        self._queue.refuse(tier, error)

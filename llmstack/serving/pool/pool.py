"""The built-in pool: one model server process per loaded model, started and stopped on demand.

`schedule` decides what to do next; `Pool` carries it out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from llmstack.errors import LlmstackError
from llmstack.serving.base import ModelState
from llmstack.serving.errors import (
    OUT_OF_FILES,
    FailureReport,
    RequestFailedError,
    TierUnavailableError,
    is_out_of_files,
)
from llmstack.serving.kv.cache import ModelKv
from llmstack.serving.kv.llama_cpp_slots import LlamaCppSlots
from llmstack.serving.pool.lease import PoolLease, ReadLease
from llmstack.serving.pool.loaded_model import LoadedModel
from llmstack.serving.pool.pool_config import PoolConfig, PoolLimits
from llmstack.serving.pool.queue import Queue, WaitingRequest
from llmstack.serving.pool.scheduler import schedule
from llmstack.serving.pool.slots import Slots
from llmstack.units import GB

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from llmstack.serving.kv.files import PromptCacheFiles
    from llmstack.serving.pool.loaded_model import Grant
    from llmstack.serving.pool.model_server import ModelServer
    from llmstack.upstream.client import Upstream

_log = logging.getLogger(__name__)

MIN_DELAY_S = 0.001  # event loops count in milliseconds, and may be early by a fraction of one


class Pool:
    """The built-in pool.

    Args:
        config: what it serves.
        upstream: the HTTP client of its leases.
        limits: of its queue.
        kv_files: where prompt caches are saved; None if they are not saved.
        clock: returns monotonic seconds.
    """

    kind: Literal["builtin"] = "builtin"
    loads_models = True

    def __init__(
        self,
        config: PoolConfig,
        upstream: Upstream,
        *,
        limits: PoolLimits | None = None,
        kv_files: PromptCacheFiles | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = self._target = config
        self._upstream = upstream
        self._limits = limits or PoolLimits()
        self._kv_files = kv_files
        self._clock = clock
        self._models: dict[str, LoadedModel] = {}
        self._loaded: frozenset[str] = frozenset()  # the same without those that are stopping
        self._queue = Queue(self._limits.queue)
        self._failures: dict[str, str] = {}
        self._loads: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf
        self._warned: set[str] = set()  # tiers that are larger than the whole budget
        self._closing = False

    async def acquire(self, tier: str, session: str = "", *, pinned: bool = True) -> PoolLease:
        """Wait until a tier's model is loaded and has a free slot, and return a lease of it."""
        if self._closing:
            raise TierUnavailableError("the router is stopping", retry_after=5)
        if tier not in self._target.plan.needs:
            raise TierUnavailableError(f"{tier} has no model to load: it is served elsewhere")
        if self.has_free_slot(tier):
            grant = self._models[tier].grant(session)
        else:
            grant = await self._wait_for_grant(WaitingRequest(tier, self._clock(), session))
        lease = PoolLease(self._release, self._upstream, tier, session, grant, pinned=pinned)
        await lease.prepare()
        return lease

    async def acquire_loaded(self, tier: str) -> ReadLease:
        """Return the right to read from a loaded model: nothing is loaded, awaited, or evicted for it."""
        model = self._models.get(tier)
        if self._closing or model is None or model.state != "ready" or model.unload_requested:
            text = (
                f"{tier} is not loaded, and a request that only reads loads nothing: "
                f"run `llmstack load {tier}` or POST /llmstack/load/{tier}, then repeat it"
            )
            raise RequestFailedError(FailureReport(HTTPStatus.CONFLICT, "not_loaded", text, "swapper"))
        model.reads += 1
        return ReadLease(self._end_read, self._upstream, tier, model)

    def _end_read(self, model: LoadedModel) -> None:
        """End a read, and do what it held up."""
        model.reads -= 1
        self._run_schedule()

    def has_free_slot(self, tier: str) -> bool:
        """Return whether a request would be granted at once, without scheduling."""
        model = self._models.get(tier)
        return model is not None and model.has_free_slot and not self._queue

    async def _wait_for_grant(self, request: WaitingRequest) -> Grant:
        """Wait in the queue until a request is granted."""
        number = self._queue.add(request)
        try:
            self._run_schedule()
            async with asyncio.timeout(self._limits.wait_s):
                await asyncio.wait([request.granted])
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if (grant := request.grant) is not None:  # granted at the same moment: it must not be lost
                model, slot = grant
                model.slots.release(slot, served=False)
                self._release(request.tier, model)
            raise
        finally:
            if self._queue.remove(number):
                self._run_schedule()
        if not request.granted.done():
            raise TierUnavailableError(
                f"{request.tier} did not become free within {self._limits.wait_s:g} s", retry_after=30
            )
        return request.granted.result()

    def _release(self, tier: str, model: LoadedModel) -> None:
        """End a lease, and schedule if that can change anything."""
        model.leases -= 1
        model.last_used = self._clock()
        ttl = self._config.ttls.get(tier, 0)  # 0 if the tier was removed meanwhile
        expires_before_wake = 0 < ttl < self._wakes_at - model.last_used
        if self._queue or model.unload_requested or expires_before_wake or self._config is not self._target:
            self._run_schedule()

    def states(self) -> dict[str, ModelState]:
        """Return the state of every tier."""
        return {tier: self._state(tier) for tier in self._config.plan.needs}

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
            return model.model_state(now=self._clock(), waiting=waiting, loads=loads)
        failure = self._failures.get(tier)
        return ModelState("down" if failure else "idle", waiting=waiting, loads=loads, detail=failure or "")

    async def load(self, tier: str) -> None:
        """Load a tier's model without a request."""
        model = self._models.get(tier)
        if model is None or model.state != "ready" or model.unload_requested:
            async with await self.acquire(tier):
                pass

    async def unload(self, tier: str) -> bool:
        """Unload a tier's model once its requests have ended, and wait until it is stopped."""
        model = self._models.get(tier)
        if model is None:
            return False
        model.unload_requested = True
        self._run_schedule()
        await model.ended.wait()
        return True

    def replace(self, config: PoolConfig, *, changed: Collection[str]) -> None:
        """Apply another configuration; no request is dropped.

        Args:
            config: what to serve from now on.
            changed: tiers whose running server is outdated: it is stopped once its requests have ended.
        """
        old, self._target = self._config, config
        self._warned.clear()
        for tier, model in self._models.items():
            model.unload_requested = model.unload_requested or tier in changed
        # A tier that was removed still serves the requests that wait for it.
        in_use = self._models.keys() | self._queue.tiers()
        self._config = config.merge(
            old,
            removed=[tier for tier in in_use if tier not in config.plan.needs],
            outdated=[tier for tier, model in self._models.items() if model.unload_requested],
        )
        self._run_schedule()

    def _drop_old_config(self) -> None:
        """Drop what is left of an old configuration once nothing uses it."""
        waited_for = self._queue.tiers()
        removed = [tier for tier in self._models.keys() | waited_for if tier not in self._target.plan.needs]
        for tier in removed:
            if tier in self._models:
                self._models[tier].unload_requested = tier not in waited_for
        if not removed and not any(model.unload_requested for model in self._models.values()):
            self._config = self._target

    async def close(self) -> None:
        """Refuse the waiting requests and stop every model at once."""
        self._closing = True
        self._wake_at(None)
        self._queue.close(TierUnavailableError("the router is stopping", retry_after=5))
        for tier, model in self._models.items():
            if model.state != "stopping":
                self._stop(tier, model)
        while self._tasks:
            await asyncio.wait(self._tasks)

    # Scheduling

    def _run_schedule(self) -> None:
        """Carry out what `schedule` returns for the present state."""
        if self._closing:
            return
        if self._config is not self._target:
            self._drop_old_config()
        now = self._clock()
        actions = schedule(
            {tier: model.running(self._config.ttls[tier]) for tier, model in self._models.items()},
            self._queue.waiters(),
            self._config.plan,
            now=now,
            patience=self._limits.patience_s,
        )
        for number in actions.grants:
            self._queue.grant(number, self._models)
        for tier in actions.stops:
            self._stop(tier, self._models[tier])
        for tier in actions.starts:
            try:
                model = LoadedModel(self._config.create_server(tier), now, Slots(self._config.slots[tier]))
            except LlmstackError as error:
                self._refuse(tier, error)
            else:
                self._models[tier] = model
                self._note_loaded()
                self._spawn(self._run_model(tier, model))
        self._wake_at(actions.wake_at)
        if any(tier not in self._models for tier in actions.starts):
            self._run_schedule()  # its requests were refused, others may have its memory

    def _wake_at(self, at: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        self._wakes_at = math.inf if at is None else at
        if at is not None:
            delay = max(MIN_DELAY_S, at - self._clock())
            self._wake = asyncio.get_running_loop().call_later(delay, self._run_schedule)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The life of one model

    async def _run_model(self, tier: str, model: LoadedModel) -> None:
        """Start a model, wait until its process ends, then forget it."""
        error: LlmstackError | None = None
        try:
            await self._start(tier, model)
            await model.server.wait()
            self._forget(tier, model)
            if model.state == "ready":
                _log.error("%s ended unexpectedly: %s", tier, await model.server.failure())
        except LlmstackError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - a bug must not leave requests waiting
            error = LlmstackError(f"{tier} cannot start: {OUT_OF_FILES.message}")
            if not is_out_of_files(failure):
                _log.exception("running %s", tier)
                error = LlmstackError(f"{tier} cannot start: internal error, see the router's log")
        if error is not None and model.state == "starting":
            self._refuse(tier, error)
        self._forget(tier, model)

    def _forget(self, tier: str, model: LoadedModel) -> None:
        if not model.ended.is_set():
            model.ended.set()
            del self._models[tier]
            self._note_loaded()
            self._run_schedule()

    async def _start(self, tier: str, model: LoadedModel) -> None:
        plan = self._config.plan
        if plan.exceeds(tier) and tier not in self._warned:
            self._warned.add(tier)
            _log.warning(
                "%s needs %.1f GB, more than the whole budget of %.1f GB; it is loaded by itself: %s",
                tier,
                plan.needs[tier] / GB,
                plan.budget / GB,
                plan.advice.get(tier, "raise `memory_gb`"),
            )
        await model.server.start()
        if model.state != "starting":
            return  # it is being stopped already
        self._failures.pop(tier, None)
        self._loads[tier] += 1
        model.load_s = self._clock() - model.since
        model.kv = self._model_kv(tier, model.server)
        model.set_state("ready", self._clock())
        _log.info("%s is loaded after %.2f s (pid %s)", tier, model.load_s, model.server.pid)
        self._run_schedule()

    def _stop(self, tier: str, model: LoadedModel) -> None:
        """Start to stop a model; its memory is free once its process has ended."""
        model.set_state("stopping", self._clock())
        self._note_loaded()
        self._spawn(self._stop_server(tier, model))

    async def _stop_server(self, tier: str, model: LoadedModel) -> None:
        try:
            await model.stop()
        except Exception:  # noqa: BLE001 - the other models must still be stopped
            _log.exception("stopping %s", tier)
        else:
            _log.info("%s was stopped", tier)

    def _model_kv(self, tier: str, server: ModelServer) -> ModelKv | None:
        if self._kv_files is None or server.kv_directory is None:
            return None
        return ModelKv(tier, LlamaCppSlots(server.url, server.headers), server.kv_directory, self._kv_files)

    def _refuse(self, tier: str, error: LlmstackError) -> None:
        """Refuse every request that waits for a tier that could not start; the next request tries again."""
        self._failures[tier] = error.message
        _log.error("%s cannot start: %s", tier, error.message)
        self._queue.refuse(tier, error)

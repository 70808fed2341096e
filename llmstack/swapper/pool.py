"""The built-in swapper: one model server process per resident model, started and stopped on demand.

What to do is decided by `schedule`; this carries it out.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from llmstack.errors import LlmstackError
from llmstack.swapper.base import ModelState, SwapError
from llmstack.swapper.schedule import PATIENCE_S, Running, Waiter, schedule
from llmstack.swapper.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping
    from types import TracebackType

    from llmstack.swapper.base import State
    from llmstack.swapper.model_server import ModelServer
    from llmstack.swapper.planner import MemoryPlan

_log = logging.getLogger(__name__)

_SHOWN_AS: dict[str, State] = {"starting": "loading", "ready": "resident", "stopping": "idle"}
SHORTEST_NAP_S = 0.001  # event loops count in milliseconds and may be early by a part of one


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the pool.

    Attributes:
        queue: requests that may wait for one model.
        wait_s: seconds that one request may wait; a load from a slow disk takes minutes.
        patience_s: see `schedule`.
    """

    queue: int = 1000
    wait_s: float = 900.0
    patience_s: float = PATIENCE_S


@dataclass(slots=True)
class _Model:
    """A model that holds memory."""

    server: ModelServer
    state: Literal["starting", "ready", "stopping"]
    since: float
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    leases: int = 0
    load_s: float = 0.0
    last_used: float = 0.0
    unwanted: bool = False


@dataclass(slots=True)
class _Request:
    """A request in the queue."""

    tier: str
    since: float
    granted: asyncio.Future[_Model] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def lease(self) -> _Model | None:
        """The model it was granted a lease of, if it was."""
        over = self.granted.done() and not self.granted.cancelled() and self.granted.exception() is None
        return self.granted.result() if over else None


class PoolLease:
    """A lease of the built-in pool."""

    origin: Literal["engine"] = "engine"

    def __init__(self, pool: Pool, tier: str, model: _Model) -> None:
        self._pool = pool
        self._model = model
        self._given_back = False
        self.tier = tier

    @property
    def url(self) -> str:
        """Address of the model server."""
        return self._model.server.url

    @property
    def slot(self) -> int | None:
        """The server chooses."""
        return None

    @property
    def headers(self) -> Mapping[str, str]:
        """The model server's key."""
        return self._model.server.headers

    async def failure(self) -> str | None:
        """Return why the model server ended, if it did."""
        return await self._model.server.failure()

    async def explain(self, status: int, body: bytes) -> str | None:
        """Return why, where an answer with this status is not the model server's own."""
        return await self._model.server.explain(status, body)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back."""
        if not self._given_back:
            self._given_back = True
            self._pool.release(self._model)


class Pool:
    """The built-in pool.

    Args:
        servers: makes the server of a tier, not yet started; called once for every start.
        plan: sizes and budget; its tiers are the ones that can be asked for.
        ttls: seconds idle before a tier is stopped; `slots`: requests it serves at once.
        limits: bounds of its queues.
        clock: monotonic seconds.
    """

    kind: Literal["builtin"] = "builtin"

    def __init__(
        self,
        servers: Callable[[str], ModelServer],
        plan: MemoryPlan,
        *,
        ttls: Mapping[str, float],
        slots: Mapping[str, int],
        limits: Limits = Limits(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terms = self._target = Terms(servers, plan, ttls, slots)
        self._limits = limits
        self._clock = clock
        self._models: dict[str, _Model] = {}
        self._queue: dict[int, _Request] = {}  # insertion order is the order of arrival
        self._ids = itertools.count()
        self._failures: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._closing = False

    async def acquire(self, tier: str, session: str = "") -> PoolLease:  # noqa: ARG002 - slots are not pinned yet
        """Wait until a tier is resident and has a free slot, and return the right to use it."""
        if self._closing:
            raise SwapError("the router is stopping", retry_after=5)
        if tier not in self._target.plan.needs:
            raise SwapError(f"{tier} is none of the tiers that this pool serves")
        if sum(request.tier == tier for request in self._queue.values()) >= self._limits.queue:
            raise SwapError(f"{self._limits.queue} requests are waiting for {tier} already", retry_after=10)
        number, request = next(self._ids), _Request(tier, self._clock())
        self._queue[number] = request
        try:
            self._act()
            async with asyncio.timeout(self._limits.wait_s):
                await asyncio.wait([request.granted])
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if (model := request.lease) is not None:
                self.release(model)  # granted and cancelled in the same moment: it must not be lost
            raise
        finally:
            if self._queue.pop(number, None) is not None:
                self._act()
        if not request.granted.done():
            raise SwapError(f"{tier} did not become free within {self._limits.wait_s:g} s", retry_after=30)
        return PoolLease(self, tier, request.granted.result())

    def release(self, model: _Model) -> None:
        """Take a lease back."""
        model.leases -= 1
        model.last_used = self._clock()
        self._act()

    def states(self) -> dict[str, ModelState]:
        """Return the state of every tier."""
        waiting: dict[str, int] = dict.fromkeys(self._terms.plan.needs, 0)
        for request in self._queue.values():
            waiting[request.tier] += 1
        return {tier: self._state(tier, count) for tier, count in waiting.items()}

    def _state(self, tier: str, waiting: int) -> ModelState:
        model = self._models.get(tier)
        if model is None:
            failure = self._failures.get(tier)
            return ModelState("down" if failure else "idle", waiting=waiting, detail=failure or "")
        return ModelState(
            state=_SHOWN_AS[model.state],
            pid=model.server.pid,
            port=model.server.port,
            since=self._clock() - model.since,
            leases=model.leases,
            waiting=waiting,
        )

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

    def replace(
        self,
        servers: Callable[[str], ModelServer],
        plan: MemoryPlan,
        *,
        ttls: Mapping[str, float],
        slots: Mapping[str, int],
        changed: Collection[str],
    ) -> None:
        """Serve other tiers from now on, or the same ones otherwise; no request is dropped.

        Args:
            servers: as for the pool itself.
            plan: likewise.
            ttls: likewise.
            slots: likewise.
            changed: tiers whose running server is no longer the right one: it ends once its requests have.
        """
        old, self._target = self._terms, Terms(servers, plan, ttls, slots)
        for tier, model in self._models.items():
            model.unwanted = model.unwanted or tier in changed
        # Who still waits for a tier that is gone was promised it: it is served, and forgotten afterwards.
        left = {*self._models, *(request.tier for request in self._queue.values())}
        self._terms = self._target.beside(
            old,
            gone=[tier for tier in left if tier not in plan.needs],
            outdated=[tier for tier in self._models if tier in changed],
        )
        self._act()

    def _settle(self) -> None:
        """Let go of what an exchange of terms has left, once nobody needs it."""
        waited_for = {request.tier for request in self._queue.values()}
        gone = [tier for tier in {*self._models, *waited_for} if tier not in self._target.plan.needs]
        for tier in gone:
            if tier in self._models:
                self._models[tier].unwanted = tier not in waited_for
        if not gone and not any(model.unwanted for model in self._models.values()):
            self._terms = self._target

    async def close(self) -> None:
        """Refuse what waits and stop every model at once."""
        self._closing = True
        self._wake_at(None)
        for request in self._queue.values():
            _fail(request, SwapError("the router is stopping", retry_after=5))
        for tier, model in self._models.items():
            if model.state != "stopping":
                self._set(tier, "stopping")
                self._spawn(self._stop(tier, model))
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
            {tier: self._running(tier, model) for tier, model in self._models.items()},
            [
                Waiter(number, request.tier, request.since)
                for number, request in self._queue.items()
                if not request.granted.done()
            ],
            self._terms.plan,
            now=now,
            patience=self._limits.patience_s,
        )
        for number in actions.grants:
            request = self._queue.pop(number)
            model = self._models[request.tier]
            model.leases += 1
            request.granted.set_result(model)
        for tier in actions.stops:
            self._set(tier, "stopping")
            self._spawn(self._stop(tier, self._models[tier]))
        for tier in actions.starts:
            try:
                model = _Model(self._terms.servers(tier), "starting", now)
            except LlmstackError as error:
                self._refuse(tier, error)
            else:
                self._models[tier] = model
                self._spawn(self._run(tier, model))
        self._wake_at(actions.wake_at)
        if any(tier not in self._models for tier in actions.starts):
            self._act()  # those who waited for it were refused, others may have its place

    def _running(self, tier: str, model: _Model) -> Running:
        return Running(
            state=model.state,
            leases=model.leases,
            slots=self._terms.slots[tier],
            ready_since=model.since,
            load_s=model.load_s,
            last_used=model.last_used,
            ttl=self._terms.ttls[tier],
            unwanted=model.unwanted,
        )

    def _wake_at(self, at: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if at is not None:
            delay = max(SHORTEST_NAP_S, at - self._clock())
            self._wake = asyncio.get_running_loop().call_later(delay, self._act)

    def _set(self, tier: str, state: Literal["ready", "stopping"]) -> None:
        self._models[tier].state = state
        self._models[tier].since = self._clock()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # One model's life

    async def _run(self, tier: str, model: _Model) -> None:
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

    def _forget(self, tier: str, model: _Model) -> None:
        if not model.gone.is_set():
            model.gone.set()
            del self._models[tier]
            self._act()

    async def _start(self, tier: str, model: _Model) -> None:
        plan = self._terms.plan
        if plan.exceeds(tier):
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
        model.load_s = self._clock() - model.since
        self._set(tier, "ready")
        _log.info("%s is resident after %.2f s (pid %s)", tier, model.load_s, model.server.pid)
        self._act()

    async def _stop(self, tier: str, model: _Model) -> None:
        try:
            await model.server.stop()
        except Exception:  # noqa: BLE001 - a bug in stopping one must not keep the others from being stopped
            _log.exception("stopping %s", tier)
        else:
            _log.info("%s was stopped", tier)

    def _refuse(self, tier: str, error: LlmstackError) -> None:
        """Answer everybody who waits for a tier that could not start; the next request tries again."""
        self._failures[tier] = error.message
        _log.error("%s cannot start: %s", tier, error.message)
        for request in self._queue.values():
            if request.tier == tier:
                _fail(request, SwapError(error.message, hint=error.hint))


def _fail(request: _Request, error: SwapError) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        request.granted.set_exception(error)

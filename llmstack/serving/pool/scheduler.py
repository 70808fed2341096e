"""What the pool does next: which request gets a lease, which model starts, which one stops. Pure.

The pool passes in its present state and carries out the actions that come back; nothing here waits, starts or
stops anything.

The rules:
- Requests are granted in the order of arrival, at most one per slot of a model.
- A requested model starts as soon as it fits; the cheapest idle models are stopped to make room.
- A model with leases is never stopped. When another model has waited for its memory for `patience` seconds,
  it gets no new leases, so that its own queue cannot keep the other one out for ever.
- Memory is reserved in the order of arrival: a small model does not start before a large one that came first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmstack.serving.memory.eviction import MemoryPlan

PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request in the queue. Times are seconds of one monotonic clock."""

    id: int
    tier: str
    since: float


@dataclass(frozen=True, slots=True)
class Running:
    """A model that holds memory. Times are seconds of one monotonic clock.

    Attributes:
        leases: requests in flight.
        slots: requests that it serves at once.
        ready_since: when it became ready; `load_s` is how long that took.
        last_used: when its last lease was given back.
        ttl: seconds idle before it is stopped; 0 means never.
        unload_requested: it is to be stopped once its requests have ended.
    """

    state: Literal["starting", "ready", "stopping"]
    leases: int = 0
    slots: int = 1
    ready_since: float = 0.0
    load_s: float = 0.0
    last_used: float = 0.0
    ttl: float = 0.0
    unload_requested: bool = False

    @property
    def is_idle(self) -> bool:
        """Whether it is ready and has no leases."""
        return self.state == "ready" and self.leases == 0

    @property
    def is_unused(self) -> bool:
        """Whether it had no lease since it became ready: the request that it was started for comes first."""
        return self.is_idle and self.last_used < self.ready_since


@dataclass(slots=True)
class Actions:
    """What to do now, and when to schedule again at the latest."""

    grants: list[int] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    wake_at: float | None = None

    def wake(self, at: float) -> None:
        """Schedule again no later than this."""
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)


def schedule(
    running: Mapping[str, Running],
    waiters: Sequence[Waiter],
    plan: MemoryPlan,
    *,
    now: float,
    patience: float = PATIENCE_S,
) -> Actions:
    """Return what to do in this state.

    Args:
        running: models that hold memory, by tier.
        waiters: the queue, oldest first.
        plan: sizes and budget.
        now: the time.
        patience: seconds that another model waits before a busy one gets no new leases.
    """
    actions = Actions()
    draining = _draining_tiers(running, waiters, plan, now=now, patience=patience, actions=actions)
    leases = _grant(running, waiters, draining, actions)
    _start_and_evict(running, waiters, plan, leases, actions)
    _stop_expired(running, waiters, leases, now, actions)
    return actions


def _requested_tiers(running: Mapping[str, Running], waiters: Sequence[Waiter]) -> dict[str, float]:
    """Return tiers that requests wait for and that do not run, with the oldest wait of each."""
    requested: dict[str, float] = {}
    for waiter in waiters:
        if waiter.tier not in running:
            requested.setdefault(waiter.tier, waiter.since)
    return requested


def _draining_tiers(
    running: Mapping[str, Running],
    waiters: Sequence[Waiter],
    plan: MemoryPlan,
    *,
    now: float,
    patience: float,
    actions: Actions,
) -> set[str]:
    """Return the models that get no new leases: those to be unloaded, and those whose turn is over."""
    draining = {tier for tier, model in running.items() if model.unload_requested}
    waited_for = {waiter.tier for waiter in waiters}
    staying = {name for name, model in running.items() if model.state != "stopping"}
    # The model that became ready first is drained first. Ordered by last use, which changes with every
    # request, the busier one of two models would be drained in turn, and neither drain would ever end.
    ready = {name: running[name].ready_since for name in staying if running[name].state == "ready"}
    # A model between two requests of its own queue counts as busy, or its turn would never end.
    unused = {
        name: since for name, since in ready.items() if running[name].is_idle and name not in waited_for
    }
    for tier, since in _requested_tiers(running, waiters).items():
        if plan.victims(staying, tier, unused) is not None:
            continue  # it fits, or evicting unused models makes room
        for victim in plan.victims(staying, tier, ready) or ():
            model = running[victim]
            # A turn lasts at least as long as loading took, or swapping would take more time than serving.
            turn_ends = max(since, model.ready_since) + max(patience, model.load_s)
            if now < turn_ends:
                actions.wake(turn_ends)
            elif not (model.is_unused and victim in waited_for):
                draining.add(victim)
    return draining


def _grant(
    running: Mapping[str, Running], waiters: Sequence[Waiter], draining: set[str], actions: Actions
) -> dict[str, int]:
    """Grant leases in the order of arrival; return the number of leases of each model afterwards."""
    leases = {tier: model.leases for tier, model in running.items()}
    for waiter in waiters:
        model = running.get(waiter.tier)
        if model is None or model.state != "ready" or waiter.tier in draining:
            continue
        if leases[waiter.tier] < model.slots:
            leases[waiter.tier] += 1
            actions.grants.append(waiter.id)
    return leases


def _start_and_evict(
    running: Mapping[str, Running],
    waiters: Sequence[Waiter],
    plan: MemoryPlan,
    leases: Mapping[str, int],
    actions: Actions,
) -> None:
    """Start the requested models that fit; stop idle models to make room for the others."""
    occupied = set(running)
    stopping = {tier for tier, model in running.items() if model.state == "stopping"}
    for tier in _requested_tiers(running, waiters):
        if plan.fits(occupied | {tier}):
            actions.starts.append(tier)
            occupied.add(tier)
            continue
        staying = occupied - stopping
        idle = {
            name: model.last_used
            for name, model in running.items()
            if name in staying and model.state == "ready" and leases[name] == 0
        }
        victims = plan.victims(staying, tier, idle)
        if victims:
            actions.stops += sorted(victims)
            stopping |= victims
        occupied.add(tier)  # its memory is reserved, whether its victims are stopping or still busy


def _stop_expired(
    running: Mapping[str, Running],
    waiters: Sequence[Waiter],
    leases: Mapping[str, int],
    now: float,
    actions: Actions,
) -> None:
    """Stop models that were idle for their ttl, or are to be unloaded."""
    waited_for = {waiter.tier for waiter in waiters}
    for tier, model in running.items():
        if model.state == "stopping" or leases[tier] or tier in actions.stops:
            continue
        if model.unload_requested:
            actions.stops.append(tier)
        elif model.state == "ready" and model.ttl > 0 and tier not in waited_for:
            expires = max(model.last_used, model.ready_since) + model.ttl
            if now >= expires:
                actions.stops.append(tier)
            else:
                actions.wake(expires)

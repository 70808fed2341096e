"""What the pool does next: who gets a lease, which model starts, which stops. Pure.

The pool hands in what is so and carries out what comes back; nothing here waits, starts or stops anything.

The rules:
- Requests are granted in the order of arrival, at most one per slot of a model.
- A model that is wanted starts as soon as it fits; room is made by stopping the cheapest idle models.
- A model with leases is never stopped. When others have waited for its place for `patience` seconds, it
  gets no new leases, so that its own queue cannot keep them out for ever.
- Memory is promised in the order of arrival: a small model does not slip in before a large one.
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
    """A model that holds memory.

    Attributes:
        leases: requests in flight.
        slots: how many may be in flight.
        ready_since: when it became ready; `load_s` how long that took.
        last_used: when its last lease was given back.
        ttl: seconds idle before it is stopped; 0 is never.
        unwanted: a person asked for it to be unloaded.
    """

    state: Literal["starting", "ready", "stopping"]
    leases: int = 0
    slots: int = 1
    ready_since: float = 0.0
    load_s: float = 0.0
    last_used: float = 0.0
    ttl: float = 0.0
    unwanted: bool = False

    @property
    def idle(self) -> bool:
        """Ready and not in use."""
        return self.state == "ready" and self.leases == 0

    @property
    def fresh(self) -> bool:
        """Nobody has had a lease of it since it is ready: whoever it was started for comes first."""
        return self.idle and self.last_used < self.ready_since


@dataclass(slots=True)
class Actions:
    """What to do now, and when to ask again if nothing happens before."""

    grants: list[int] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    wake_at: float | None = None

    def wake(self, at: float) -> None:
        """Ask again no later than this."""
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)


def schedule(
    running: Mapping[str, Running],
    waiters: Sequence[Waiter],
    plan: MemoryPlan,
    *,
    now: float,
    patience: float = PATIENCE_S,
) -> Actions:
    """Decide.

    Args:
        running: models that hold memory, by tier.
        waiters: the queue, oldest first.
        plan: sizes and budget.
        now: the time.
        patience: seconds that others wait before a busy model takes no new leases.
    """
    actions = Actions()
    draining = _draining(running, waiters, plan, now=now, patience=patience, actions=actions)
    leases = _grant(running, waiters, draining, actions)
    _place(running, waiters, plan, leases, actions)
    _expire(running, waiters, leases, now, actions)
    return actions


def _wanted(running: Mapping[str, Running], waiters: Sequence[Waiter]) -> dict[str, float]:
    """Return tiers that somebody waits for and that do not run, with the oldest wait of each."""
    wanted: dict[str, float] = {}
    for waiter in waiters:
        if waiter.tier not in running:
            wanted.setdefault(waiter.tier, waiter.since)
    return wanted


def _draining(
    running: Mapping[str, Running],
    waiters: Sequence[Waiter],
    plan: MemoryPlan,
    *,
    now: float,
    patience: float,
    actions: Actions,
) -> set[str]:
    """Return ready models that take no new leases: unwanted ones, and those whose turn is over."""
    draining = {tier for tier, model in running.items() if model.unwanted}
    waited_for = {waiter.tier for waiter in waiters}
    staying = {name for name, model in running.items() if model.state != "stopping"}
    # The oldest turn ends first. Not by last use, which changes with every request: then, of two busy models,
    # the one that is almost drained would be spared for the other, and neither ever ends.
    ready = {name: running[name].ready_since for name in staying if running[name].state == "ready"}
    # A model between two requests of its own queue is busy too, or its turn would never end.
    spare = {name: used for name, used in ready.items() if running[name].idle and name not in waited_for}
    for tier, since in _wanted(running, waiters).items():
        if plan.victims(staying, tier, spare) is not None:
            continue  # there is room, or models that nobody uses can make it
        for victim in plan.victims(staying, tier, ready) or ():
            model = running[victim]
            # A turn lasts at least as long as its loading did, or swapping would take more time than serving.
            over = max(since, model.ready_since) + max(patience, model.load_s)
            if now < over:
                actions.wake(over)
            elif not (model.fresh and victim in waited_for):
                draining.add(victim)
    return draining


def _grant(
    running: Mapping[str, Running], waiters: Sequence[Waiter], draining: set[str], actions: Actions
) -> dict[str, int]:
    """Grant what can be granted; return the leases of each model afterwards."""
    leases = {tier: model.leases for tier, model in running.items()}
    for waiter in waiters:
        model = running.get(waiter.tier)
        if model is None or model.state != "ready" or waiter.tier in draining:
            continue
        if leases[waiter.tier] < model.slots:
            leases[waiter.tier] += 1
            actions.grants.append(waiter.id)
    return leases


def _place(
    running: Mapping[str, Running],
    waiters: Sequence[Waiter],
    plan: MemoryPlan,
    leases: Mapping[str, int],
    actions: Actions,
) -> None:
    """Start wanted models where there is room, make room where idle models can give it."""
    occupied = set(running)
    stopping = {tier for tier, model in running.items() if model.state == "stopping"}
    for tier in _wanted(running, waiters):
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
        occupied.add(tier)  # its place is promised, whether its victims are going or still busy


def _expire(
    running: Mapping[str, Running],
    waiters: Sequence[Waiter],
    leases: Mapping[str, int],
    now: float,
    actions: Actions,
) -> None:
    """Stop what was idle for its ttl or is not wanted any more."""
    waited_for = {waiter.tier for waiter in waiters}
    for tier, model in running.items():
        if model.state == "stopping" or leases[tier] or tier in actions.stops:
            continue
        if model.unwanted:
            actions.stops.append(tier)
        elif model.state == "ready" and model.ttl > 0 and tier not in waited_for:
            expires = max(model.last_used, model.ready_since) + model.ttl
            if now >= expires:
                actions.stops.append(tier)
            else:
                actions.wake(expires)

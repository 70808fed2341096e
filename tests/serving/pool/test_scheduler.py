from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import sample

from llmstack.serving.memory.eviction import MemoryPlan
from llmstack.serving.pool.scheduler import Actions, Running, Waiter, schedule

PATIENCE = 10.0


def plan(budget: int, **needs: int) -> MemoryPlan:
    return MemoryPlan(budget, needs, {tier: float(need) for tier, need in needs.items()})


ABC = plan(10, a=5, b=5, c=5, big=20, small=1)


def ready(**fields: Any) -> Running:
    return Running("ready", **{"ready_since": 1.0, "last_used": 2.0, **fields})


SITUATIONS: dict[str, tuple[dict[str, Running], list[Waiter], float, Actions]] = {
    "nothing": ({}, [], 0.0, Actions()),
    "a model that someone waits for starts": ({}, [Waiter(1, "a", 0.0)], 0.0, Actions(starts=["a"])),
    "as many start as fit, in the order of arrival": (
        {},
        [Waiter(1, "c", 0.0), Waiter(2, "a", 0.1), Waiter(3, "b", 0.2)],
        1.0,
        Actions(starts=["c", "a"]),
    ),
    "requests for a loading model keep waiting": (
        {"a": Running("starting")},
        [Waiter(1, "a", 0.0)],
        5.0,
        Actions(),
    ),
    "leases in the order of arrival, one per slot": (
        {"a": ready(slots=2, leases=1), "b": ready(slots=1)},
        [Waiter(1, "a", 0.0), Waiter(2, "a", 0.1), Waiter(3, "b", 0.2), Waiter(4, "b", 0.3)],
        3.0,
        Actions(grants=[1, 3]),
    ),
    "the least recently used idle model is stopped": (
        {"a": ready(last_used=4.0), "b": ready(last_used=3.0)},
        [Waiter(1, "c", 5.0)],
        5.0,
        Actions(stops=["b"]),
    ),
    "a busy model is not stopped, its turn ends later": (
        {"a": ready(leases=1), "b": ready(leases=1, last_used=3.0)},
        [Waiter(1, "c", 5.0)],
        6.0,
        Actions(wake_at=15.0),
    ),
    "before its turn ends a busy model takes new leases": (
        {"a": ready(leases=1, slots=2), "b": ready(leases=1, slots=2, ready_since=3.0)},
        [Waiter(1, "c", 5.0), Waiter(2, "a", 6.0), Waiter(3, "b", 6.0)],
        14.9,
        Actions(grants=[2, 3], wake_at=15.0),
    ),
    "after that the model with the longest turn takes none": (
        {"a": ready(leases=1, slots=2), "b": ready(leases=1, slots=2, ready_since=3.0)},
        [Waiter(1, "c", 5.0), Waiter(2, "a", 6.0), Waiter(3, "b", 6.0)],
        15.0,
        Actions(grants=[3]),
    ),
    "a turn lasts at least as long as loading did": (
        {"a": ready(leases=1, slots=2, load_s=60.0), "b": ready(leases=1, load_s=60.0, ready_since=30.0)},
        [Waiter(1, "c", 5.0), Waiter(2, "a", 6.0)],
        15.0,
        Actions(grants=[2], wake_at=65.0),
    ),
    "between two requests of its own queue a model is busy, too": (
        {"a": ready(leases=0), "b": ready(leases=1, ready_since=3.0)},
        [Waiter(1, "c", 5.0), Waiter(2, "a", 6.0)],
        15.0,
        Actions(stops=["a"]),
    ),
    "a model that has just been loaded serves first": (
        {"a": ready(ready_since=3.0, last_used=0.0), "b": ready(leases=1, ready_since=4.0)},
        [Waiter(1, "c", 0.0), Waiter(2, "a", 2.0)],
        30.0,
        Actions(grants=[2]),
    ),
    "a small model does not overtake a large one": (
        {"a": ready(leases=1)},
        [Waiter(1, "big", 5.0), Waiter(2, "small", 5.1)],
        6.0,
        Actions(wake_at=15.0),
    ),
    "a model larger than the budget is loaded alone": (
        {"a": ready(), "b": ready()},
        [Waiter(1, "big", 5.0)],
        6.0,
        Actions(stops=["a", "b"]),
    ),
    "and starts only when the others have ended": (
        {"a": Running("stopping")},
        [Waiter(1, "big", 5.0)],
        6.0,
        Actions(),
    ),
    "memory of a stopping model counts as used, and nothing more is stopped for it": (
        {"a": Running("stopping"), "b": ready()},
        [Waiter(1, "c", 5.0)],
        6.0,
        Actions(),
    ),
    "a model idle for its ttl is stopped": ({"a": ready(ttl=3.0)}, [], 5.0, Actions(stops=["a"])),
    "before its ttl it is not stopped": ({"a": ready(ttl=3.0)}, [], 4.0, Actions(wake_at=5.0)),
    "a busy model is not stopped at its ttl": ({"a": ready(ttl=3.0, leases=1)}, [], 50.0, Actions()),
    "its ttl counts from when it was ready, if it was never used": (
        {"a": ready(ttl=3.0, ready_since=9.0, last_used=0.0)},
        [],
        10.0,
        Actions(wake_at=12.0),
    ),
    "an unload_requested model stops when it is idle": (
        {"a": ready(unload_requested=True)},
        [],
        3.0,
        Actions(stops=["a"]),
    ),
    "until then it takes no new leases": (
        {"a": ready(unload_requested=True, leases=1, slots=2)},
        [Waiter(1, "a", 3.0)],
        3.0,
        Actions(),
    ),
    "a loading model is unloaded without waiting": (
        {"a": Running("starting", unload_requested=True)},
        [],
        3.0,
        Actions(stops=["a"]),
    ),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_decision_for_a_situation(name: str) -> None:
    running, waiters, now, expected = SITUATIONS[name]
    assert schedule(running, waiters, ABC, now=now, patience=PATIENCE) == expected


@dataclass
class Model:
    state: Any
    slots: int
    ttl: float
    since: float
    leases: int = 0
    load_s: float = 0.0
    last_used: float = 0.0
    unload_requested: bool = False

    def running(self) -> Running:
        return Running(
            self.state,
            self.leases,
            self.slots,
            self.since,
            self.load_s,
            self.last_used,
            self.ttl,
            self.unload_requested,
        )


@dataclass(frozen=True)
class TierFacts:
    need: int
    slots: int = 1
    load_s: float = 1.0
    stop_s: float = 0.5
    ttl: float = 0.0
    fails: frozenset[int] = frozenset()  # numbers of the starts that fail


@dataclass(frozen=True)
class Request:
    at: float
    tier: str
    service_s: float
    patience_s: float | None = None  # the client disconnects after this


@dataclass
class Simulation:
    """Carries out the decisions of `schedule` in virtual time, and checks every step."""

    budget: int
    tiers: dict[str, TierFacts]
    requests: list[Request]
    unloads: list[tuple[float, str]] = field(default_factory=list)
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        self.now = 0.0
        self.plan = plan(self.budget, **{tier: facts.need for tier, facts in self.tiers.items()})
        self.models: dict[str, Model] = {}
        self.queue: dict[int, Request] = {}
        self.starts = dict.fromkeys(self.tiers, 0)
        self.failures = 0
        self.waits: dict[int, float] = {}
        self.queued_before: dict[int, int] = {}
        self.order: list[tuple[str, int]] = []
        self.numbers = itertools.count()
        self.events: list[tuple[float, int, str, Any]] = []
        for number, request in enumerate(self.requests):
            self.add_event(request.at, "arrive", number)
            if request.patience_s is not None:
                self.add_event(request.at + request.patience_s, "cancel", number)
        for at, tier in self.unloads:
            self.add_event(at, "unload", tier)

    def add_event(self, at: float, event: str, argument: Any) -> None:
        heapq.heappush(self.events, (at, next(self.numbers), event, argument))

    def run(self) -> None:
        wake: float | None = None
        for _ in range(100_000):
            soonest = min(
                [time for time in (wake, self.events[0][0] if self.events else None) if time is not None],
                default=None,
            )
            self.check_that_only_events_change_decisions(until=soonest)
            if soonest is None:
                break
            self.now = max(self.now, soonest)
            while self.events and self.events[0][0] <= self.now:
                _, _, event, argument = heapq.heappop(self.events)
                getattr(self, event)(argument)
            wake = self.run_scheduler()
        assert self.queue == {}, "a request waits forever"

    def arrive(self, number: int) -> None:
        self.queued_before[number] = len(self.queue)
        self.queue[number] = self.requests[number]

    def cancel(self, number: int) -> None:
        self.queue.pop(number, None)

    def unload(self, tier: str) -> None:
        if tier in self.models:
            self.models[tier].unload_requested = True

    def loaded(self, started: tuple[str, Model]) -> None:
        tier, model = started
        if model.state != "starting":
            return
        if self.starts[tier] in self.tiers[tier].fails:
            self.failures += 1
            del self.models[tier]
            self.queue = {number: request for number, request in self.queue.items() if request.tier != tier}
            return
        model.state, model.load_s, model.since = "ready", self.now - model.since, self.now

    def stopped(self, tier: str) -> None:
        del self.models[tier]

    def served(self, model: Model) -> None:
        model.leases -= 1
        model.last_used = self.now

    def decide(self, now: float) -> Actions:
        waiters = [Waiter(number, request.tier, request.at) for number, request in self.queue.items()]
        running = {tier: model.running() for tier, model in self.models.items()}
        return schedule(running, waiters, self.plan, now=now, patience=self.patience)

    def run_scheduler(self) -> float | None:
        for _ in range(3):
            actions = self.decide(self.now)
            assert actions.wake_at is None or actions.wake_at > self.now, "it would loop without waiting"
            if not (actions.grants or actions.starts or actions.stops):
                return actions.wake_at
            self.carry_out(actions)
        raise AssertionError("the decisions do not settle")

    def carry_out(self, actions: Actions) -> None:
        for number in actions.grants:
            request = self.queue.pop(number)
            model = self.models[request.tier]
            assert model.state == "ready"
            model.leases += 1
            assert model.leases <= model.slots
            self.waits[number] = self.now - request.at
            self.order.append((request.tier, number))
            self.add_event(self.now + request.service_s, "served", model)
        for tier in actions.stops:
            model = self.models[tier]
            assert model.leases == 0, "a busy model was stopped"
            assert model.state != "stopping"
            model.state, model.since = "stopping", self.now
            self.add_event(self.now + self.tiers[tier].stop_s, "stopped", tier)
        for tier in actions.starts:
            assert tier not in self.models
            facts = self.tiers[tier]
            self.starts[tier] += 1
            self.models[tier] = Model("starting", facts.slots, facts.ttl, self.now)
            self.add_event(self.now + facts.load_s, "loaded", (tier, self.models[tier]))
        used = sum(self.tiers[tier].need for tier in self.models)
        assert used <= self.budget or len(self.models) == 1, "the budget is exceeded"

    def check_that_only_events_change_decisions(self, *, until: float | None) -> None:
        end = self.now + 1000.0 if until is None else until
        for part in (0.01, 0.5, 0.99):
            moment = self.now + (end - self.now) * part
            if not self.now < moment < end:
                continue
            actions = self.decide(moment)
            assert (actions.grants, actions.starts, actions.stops) == ([], [], [])

    @property
    def turn(self) -> float:
        """The longest time that one model can keep others waiting: unload, load, serve, drain."""
        facts = self.tiers.values()
        load = max(tier.load_s for tier in facts)
        service = max((request.service_s for request in self.requests), default=0.0)
        return max(tier.stop_s for tier in facts) + load + max(self.patience, load) + service


NAMES = "abcdef"


@st.composite
def simulations(draw: st.DrawFn) -> Simulation:
    seconds = st.floats(0.0, 30.0, allow_nan=False).map(lambda value: round(value, 1))
    count = draw(st.integers(1, 5))
    tiers = {
        name: TierFacts(
            need=draw(st.integers(1, 10)),
            slots=draw(st.integers(1, 3)),
            load_s=draw(seconds) + 0.1,
            stop_s=draw(st.sampled_from([0.0, 0.5, 5.0])),
            ttl=draw(st.sampled_from([0.0, 0.0, 1.0, 20.0])),
            fails=draw(st.frozensets(st.integers(1, 4), max_size=1)),
        )
        for name in NAMES[:count]
    }
    requests, at = [], 0.0
    for _ in range(draw(st.integers(1, 40))):
        at += draw(st.sampled_from([0.0, 0.0, 0.1, 1.0, 5.0, 40.0]))
        disconnects_after = draw(st.none() | seconds)
        requests.append(
            Request(round(at, 1), draw(st.sampled_from(NAMES[:count])), draw(seconds), disconnects_after)
        )
    unloads = draw(st.lists(st.tuples(seconds, st.sampled_from(NAMES[:count])), max_size=3))
    return Simulation(draw(st.integers(1, 14)), tiers, requests, unloads)


@sample(250)
@given(simulations())
def test_any_traffic_is_served_in_order_within_the_budget_and_in_bounded_time(simulation: Simulation) -> None:
    simulation.run()
    for tier in simulation.tiers:
        granted = [number for name, number in simulation.order if name == tier]
        assert granted == sorted(granted), "not in the order of arrival"
    swaps = len(simulation.unloads) + simulation.failures
    for number, waits in simulation.waits.items():
        assert waits <= (simulation.queued_before[number] + 2 + swaps) * 2 * simulation.turn


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("budget", [5, 10])
def test_an_endless_stream_of_requests_does_not_keep_another_model_out(budget: int, slots: int) -> None:
    """Budget 5: one model at a time. Budget 10: two, both of them busy all the time."""
    tiers = {tier: TierFacts(5, slots=slots) for tier in "abc"}
    busy = "ab" if budget == 10 else "a"
    endless = [Request(number * 0.2, tier, 1.0) for number in range(300) for tier in busy]
    requests = sorted([*endless, Request(2.0, "c", 1.0)], key=lambda request: request.at)
    simulation = Simulation(budget, tiers, requests)
    simulation.run()
    assert simulation.waits[requests.index(Request(2.0, "c", 1.0))] <= PATIENCE + 3.0


def test_models_take_turns_in_the_order_of_their_oldest_request() -> None:
    requests = [Request(0.1 * number, tier, 0.5) for number, tier in enumerate("abcabcabc")]
    simulation = Simulation(5, {tier: TierFacts(5) for tier in "abc"}, requests)
    simulation.run()
    assert [tier for tier, _ in simulation.order] == [*"aaabbbccc"]

from __future__ import annotations

import time
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import sample

from llmstack.serving.memory.eviction import MemoryPlan, memory_plan
from llmstack.serving.memory.footprint import Footprint
from llmstack.units import GB


def plan(budget: float, **gigabytes: float) -> MemoryPlan:
    """Return a plan in which the tier named `fast` is preloaded."""
    footprints = {name: Footprint(round(size * GB), compute=0) for name, size in gigabytes.items()}
    return memory_plan(footprints, budget=round(budget * GB), preloaded="fast")


REFERENCE = plan(48, fast=3, smart=40, plan=20, uncensored=15)


def test_combinations_that_fit_are_recognised() -> None:
    assert REFERENCE.sets() == [("fast", "smart"), ("fast", "plan", "uncensored")]
    assert plan(16, fast=3, smart=40, plan=20).sets() == [("fast",), ("smart",), ("plan",)]
    assert plan(100, a=1, b=2).sets() == [("a", "b")]
    assert plan(100).sets() == []


@pytest.mark.parametrize(
    ("loaded", "requested", "evictable", "expected"),
    [
        (["fast"], "smart", {"fast": 1.0}, frozenset()),
        (
            ["fast", "plan", "uncensored"],
            "smart",
            {"fast": 1.0, "plan": 9.0, "uncensored": 9.0},
            frozenset({"plan", "uncensored"}),
        ),
        (["fast", "plan", "uncensored"], "smart", {"fast": 1.0, "plan": 9.0}, None),
        (["fast", "smart"], "plan", {"smart": 9.0}, frozenset({"smart"})),
        (["fast", "smart"], "plan", {"fast": 1.0}, None),
    ],
)
def test_the_cheapest_victims_are_chosen(
    loaded: list[str], requested: str, evictable: dict[str, float], expected: frozenset[str] | None
) -> None:
    assert REFERENCE.victims(loaded, requested, evictable) == expected


def test_the_preloaded_tier_is_evicted_last_even_if_it_is_smallest() -> None:
    crowded = plan(10, fast=1, a=5, b=4, c=1)
    assert crowded.victims(["fast", "a", "b"], "c", {"fast": 0.0, "a": 9.0, "b": 9.0}) == frozenset({"b"})
    assert crowded.victims(["fast", "a", "b"], "c", {"fast": 0.0}) == frozenset({"fast"})


def test_among_equal_costs_the_least_recently_used_is_evicted() -> None:
    equals = plan(3, a=1, b=1, c=1, d=1)
    assert equals.victims(["a", "b", "c"], "d", {"a": 3.0, "b": 1.0, "c": 2.0}) == frozenset({"b"})


def test_a_model_larger_than_the_budget_runs_alone() -> None:
    lone = plan(10, big=20, a=5, b=4)
    assert lone.exceeds("big")
    assert lone.victims([], "big", {}) == frozenset()
    assert lone.victims(["a", "b"], "big", {"a": 1.0, "b": 1.0}) == frozenset({"a", "b"})
    assert lone.victims(["a", "b"], "big", {"a": 1.0}) is None
    assert lone.victims(["big"], "a", {"big": 1.0}) == frozenset({"big"})
    assert lone.sets() == [("big",), ("a", "b")]


@sample(150)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(1, 120), st.data())
def test_no_cheaper_choice_exists(sizes: list[int], budget: int, data: st.DataObject) -> None:
    names = [f"t{number}" for number in range(len(sizes))]
    some = plan(budget, **dict(zip(names, sizes, strict=True)), requested=data.draw(st.integers(1, 40)))
    evictable = {
        name: data.draw(st.sampled_from([1.0, 2.0, 3.0]))
        for name in data.draw(st.lists(st.sampled_from(names), unique=True))
    }
    best = min(
        (
            (sum(some.costs[name] for name in chosen), max((evictable[name] for name in chosen), default=0.0))
            for count in range(len(evictable) + 1)
            for chosen in combinations(evictable, count)
            if some.fits([*(set(names) - set(chosen)), "requested"])
        ),
        default=None,
    )
    victims = some.victims(names, "requested", evictable)
    if victims is None:
        assert best is None
        return
    assert some.fits([*(set(names) - victims), "requested"])
    assert best == (
        sum(some.costs[name] for name in victims),
        max((evictable[name] for name in victims), default=0.0),
    )


@sample(100)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=7), st.integers(1, 60))
def test_combinations_are_all_the_largest_sets_that_fit(sizes: list[int], budget: int) -> None:
    names = [f"t{number}" for number in range(len(sizes))]
    some = plan(budget, **dict(zip(names, sizes, strict=True)))
    fitting = [
        set(chosen)
        for size in range(1, len(names) + 1)
        for chosen in combinations(names, size)
        if some.fits(chosen)
    ]
    largest = [chosen for chosen in fitting if not any(chosen < other for other in fitting)]
    sets = some.sets()
    assert sorted(map(sorted, sets)) == sorted(map(sorted, largest))
    assert sets == sorted(sets, key=lambda chosen: [names.index(name) for name in chosen])


@pytest.mark.parametrize("count", [12, 24, 48])
def test_many_tiers_are_planned_quickly(count: int) -> None:
    sizes = {f"t{number}": 1 + (number * 37 % 23) / 7 for number in range(count)}
    many = plan(round(sum(sizes.values())) - 30, **sizes, requested=20)
    started = time.perf_counter()
    assert many.victims(list(sizes), "requested", dict.fromkeys(sizes, 1.0))
    assert many.sets()
    assert time.perf_counter() - started < 0.5


def test_prompt_caches_do_not_count_towards_gpu_memory() -> None:
    need = {"a": Footprint(3 * GB, kv=GB, prompt_cache=2 * GB, compute=0)}
    assert memory_plan(need, budget=4 * GB, preloaded=None).exceeds("a")
    assert not memory_plan(need, budget=4 * GB, preloaded=None, on_gpu=True).exceeds("a")

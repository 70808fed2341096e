from __future__ import annotations

import time
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstack.config.model import Backend, EngineSettings, GgufModel, Tier
from llmstack.engine.header import GgufHeader
from llmstack.swapper.planner import (
    GB,
    MB,
    Footprint,
    MemoryPlan,
    default_budget,
    footprint,
    kv_bytes,
    memory_plan,
)

QWEN_3B = GgufHeader(
    architecture="qwen2",
    size=2_438_740_384,
    layers=36,
    kv_heads=(2,) * 36,
    key_length=128,
    value_length=128,
    context=32_768,
    vocabulary=151_936,
    embedding=2048,
)


def tier(*, size_gb: float | None = None, ctx_size: int = 131_072, **engine: object) -> Tier:
    settings = EngineSettings(**engine)  # type: ignore[arg-type]
    model = GgufModel(path=Path("m.gguf"), size_gb=size_gb)
    return Tier("code-fast", Backend.GGUF, model, ctx_size, engine=settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 36 layers x 2 heads x 128 values x (K + V) x 2 bytes = 36 864 bytes a token
        (EngineSettings(cache_type_k="f16", cache_type_v="f16", parallel=1), 36_864 * 131_072),
        (EngineSettings(cache_type_k="f16", cache_type_v="f16", parallel=2), 2 * 36_864 * 131_072),
        # q8_0: 34 bytes for 32 values
        (EngineSettings(parallel=1), 18_432 * 34 // 32 * 131_072),
        (
            EngineSettings(cache_type_k="f16", cache_type_v="q4_0", parallel=1),
            (9216 * 2 + 9216 * 18 // 32) * 131_072,
        ),
    ],
)
def test_kv_cache(settings: EngineSettings, expected: int) -> None:
    assert kv_bytes(QWEN_3B, settings, 131_072) == expected


def test_layers_without_a_kv_cache_are_not_counted() -> None:
    hybrid = GgufHeader("next", 1, 48, (0, 0, 0, 2) * 12, 256, 256, 262_144, 151_936, 2048)
    settings = EngineSettings(cache_type_k="f16", cache_type_v="f16", parallel=1)
    assert kv_bytes(hybrid, settings, 1000) == 12 * 2 * 256 * 2 * 2 * 1000


def test_footprint_of_a_file_on_disk() -> None:
    found = footprint(tier(parallel=1, cache_ram_gb=0.5), file_bytes=QWEN_3B.size, header=QWEN_3B)
    assert found == Footprint(
        weights=2_438_740_384,
        kv=18_432 * 34 // 32 * 131_072,
        prompt_cache=GB // 2,
        compute=48 * MB + 512 * (151_936 + 2048) * 4,
    )
    assert found.total == found.weights + found.kv + found.prompt_cache + found.compute


def test_footprint_of_a_file_that_is_missing() -> None:
    assert footprint(tier(size_gb=2.5), file_bytes=0, header=None) == Footprint(
        round(2.5 * GB), kv=0, prompt_cache=GB, compute=48 * MB
    )


def plan(budget: float, **gigabytes: float) -> MemoryPlan:
    """Return a plan where the tier called `fast` is the preloaded one."""
    footprints = {name: Footprint(round(size * GB), compute=0) for name, size in gigabytes.items()}
    return memory_plan(footprints, budget=round(budget * GB), preloaded="fast")


REFERENCE = plan(48, fast=3, smart=40, plan=20, uncensored=15)


def test_what_may_live_together() -> None:
    assert REFERENCE.sets() == [("fast", "smart"), ("fast", "plan", "uncensored")]
    assert plan(16, fast=3, smart=40, plan=20).sets() == [("fast",), ("smart",), ("plan",)]
    assert plan(100, a=1, b=2).sets() == [("a", "b")]
    assert plan(100).sets() == []


@pytest.mark.parametrize(
    ("resident", "wanted", "evictable", "expected"),
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
def test_victims(
    resident: list[str], wanted: str, evictable: dict[str, float], expected: frozenset[str] | None
) -> None:
    assert REFERENCE.victims(resident, wanted, evictable) == expected


def test_the_preloaded_tier_goes_last_even_if_it_is_smallest() -> None:
    crowded = plan(10, fast=1, a=5, b=4, c=1)
    assert crowded.victims(["fast", "a", "b"], "c", {"fast": 0.0, "a": 9.0, "b": 9.0}) == frozenset({"b"})
    assert crowded.victims(["fast", "a", "b"], "c", {"fast": 0.0}) == frozenset({"fast"})


def test_among_equals_the_one_used_longest_ago_goes() -> None:
    equals = plan(3, a=1, b=1, c=1, d=1)
    assert equals.victims(["a", "b", "c"], "d", {"a": 3.0, "b": 1.0, "c": 2.0}) == frozenset({"b"})


def test_larger_than_the_budget_is_alone() -> None:
    lone = plan(10, big=20, a=5, b=4)
    assert lone.exceeds("big")
    assert lone.victims([], "big", {}) == frozenset()
    assert lone.victims(["a", "b"], "big", {"a": 1.0, "b": 1.0}) == frozenset({"a", "b"})
    assert lone.victims(["a", "b"], "big", {"a": 1.0}) is None
    assert lone.victims(["big"], "a", {"big": 1.0}) == frozenset({"big"})
    assert lone.sets() == [("big",), ("a", "b")]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(1, 120), st.data())
def test_the_choice_is_the_cheapest_there_is(sizes: list[int], budget: int, data: st.DataObject) -> None:
    names = [f"t{number}" for number in range(len(sizes))]
    some = plan(budget, **dict(zip(names, sizes, strict=True)), wanted=data.draw(st.integers(1, 40)))
    evictable = {
        name: data.draw(st.sampled_from([1.0, 2.0, 3.0]))
        for name in data.draw(st.lists(st.sampled_from(names), unique=True))
    }
    best = min(
        (
            (sum(some.costs[name] for name in chosen), max((evictable[name] for name in chosen), default=0.0))
            for count in range(len(evictable) + 1)
            for chosen in combinations(evictable, count)
            if some.fits([*(set(names) - set(chosen)), "wanted"])
        ),
        default=None,
    )
    victims = some.victims(names, "wanted", evictable)
    if victims is None:
        assert best is None
        return
    assert some.fits([*(set(names) - victims), "wanted"])
    assert best == (
        sum(some.costs[name] for name in victims),
        max((evictable[name] for name in victims), default=0.0),
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=7), st.integers(1, 60))
def test_sets_are_all_the_largest_ones(sizes: list[int], budget: int) -> None:
    names = [f"t{number}" for number in range(len(sizes))]
    some = plan(budget, **dict(zip(names, sizes, strict=True)))
    fitting = [
        set(chosen)
        for size in range(1, len(names) + 1)
        for chosen in combinations(names, size)
        if some.fits(chosen)
    ]
    largest = [chosen for chosen in fitting if not any(chosen < other for other in fitting)]
    found = some.sets()
    assert sorted(map(sorted, found)) == sorted(map(sorted, largest))
    assert found == sorted(found, key=lambda chosen: [names.index(name) for name in chosen])


@pytest.mark.parametrize("count", [12, 24, 48])
def test_many_tiers_take_no_time(count: int) -> None:
    sizes = {f"t{number}": 1 + (number * 37 % 23) / 7 for number in range(count)}
    many = plan(round(sum(sizes.values())) - 30, **sizes, wanted=20)
    began = time.perf_counter()
    assert many.victims(list(sizes), "wanted", dict.fromkeys(sizes, 1.0))
    assert many.sets()
    assert time.perf_counter() - began < 0.5


def test_budget_where_none_is_set() -> None:
    assert default_budget(64 * GB) == 48 * GB

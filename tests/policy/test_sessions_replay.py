"""A short run of the session simulator; the full simulation is run by hand."""

from __future__ import annotations

from benchmarks.session_oracle import best
from benchmarks.session_traces import trace
from benchmarks.sessions import STACKS, Counts, PlainLadder, SessionPolicy, add, replay


def test_the_same_seed_gives_the_same_trace() -> None:
    assert trace(101) == trace(101)
    assert trace(101) != trace(102)


def test_the_plain_ladder_switches_within_tool_loops() -> None:
    for name, stack in STACKS.items():
        counts = replay(trace(101), stack, PlainLadder(stack))
        assert counts.requests == len(trace(101)), name
        assert counts.weaker == 0
        assert counts.switches >= counts.pending


def test_sticky_conversations_switch_less_and_still_fit() -> None:
    for name, stack in STACKS.items():
        plain, sticky = Counts(), Counts()
        for seed in (101, 104):
            plain = add(plain, replay(trace(seed), stack, PlainLadder(stack)))
            sticky = add(sticky, replay(trace(seed), stack, SessionPolicy(stack)))
        assert (sticky.pending, sticky.too_large, sticky.weaker, sticky.refused) == (0, 0, 0, 0), name
        assert sticky.switches < plain.switches, name
        assert sticky.again < plain.again, name


def test_the_optimum_never_reads_more_again_than_the_policy() -> None:
    for name, stack in STACKS.items():
        counts = replay(trace(104), stack, SessionPolicy(stack))
        assert best(trace(104), stack).again <= counts.again, name


def test_a_tool_loop_that_shrinks_leaves_the_fast_tier() -> None:
    stack = STACKS["hosted ultra"]
    assert replay(trace(219), stack, SessionPolicy(stack)).weaker == 0

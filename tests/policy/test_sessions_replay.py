"""A short replay of the sessions simulator; the whole one is run by hand."""

from __future__ import annotations

from benchmarks.session_oracle import best
from benchmarks.session_traces import trace
from benchmarks.sessions import STACKS, Counts, PlainLadder, SessionPolicy, add, replay


def test_the_same_seed_is_the_same_trace() -> None:
    assert trace(101) == trace(101)
    assert trace(101) != trace(102)


def test_the_plain_ladder_switches_in_tool_loops_and_reads_again() -> None:
    for name, stack in STACKS.items():
        counts = replay(trace(101), stack, PlainLadder(stack))
        assert counts.requests == len(trace(101)), name
        assert counts.weaker == 0
        assert counts.switches >= counts.pending


def test_conversations_that_stick_do_better_and_nothing_fits_worse() -> None:
    for name, stack in STACKS.items():
        plain, sticky = Counts(), Counts()
        for seed in (101, 104):
            plain = add(plain, replay(trace(seed), stack, PlainLadder(stack)))
            sticky = add(sticky, replay(trace(seed), stack, SessionPolicy(stack)))
        assert (sticky.pending, sticky.too_large, sticky.weaker, sticky.refused) == (0, 0, 0, 0), name
        assert sticky.switches < plain.switches, name
        assert sticky.again < plain.again, name


def test_with_hindsight_less_is_read_again_and_never_more() -> None:
    for name, stack in STACKS.items():
        counts = replay(trace(104), stack, SessionPolicy(stack))
        assert best(trace(104), stack).again <= counts.again, name


def test_a_tool_loop_that_shrinks_leaves_the_fast_tier() -> None:
    stack = STACKS["hosted ultra"]
    assert replay(trace(219), stack, SessionPolicy(stack)).weaker == 0

"""A short replay of the sessions simulator; the whole one is run by hand."""

from __future__ import annotations

from benchmarks.session_traces import trace
from benchmarks.sessions import STACKS, PlainLadder, replay


def test_the_same_seed_is_the_same_trace() -> None:
    assert trace(101) == trace(101)
    assert trace(101) != trace(102)


def test_the_plain_ladder_switches_in_tool_loops_and_reads_again() -> None:
    for name, stack in STACKS.items():
        counts = replay(trace(101), stack, PlainLadder(stack))
        assert counts.requests == len(trace(101)), name
        assert counts.weaker == 0
        assert counts.switches >= counts.pending

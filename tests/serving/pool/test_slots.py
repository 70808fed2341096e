from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.serving.pool.slots import Slot, Slots


def serve(slots: Slots, *sessions: str) -> list[int]:
    """Serve one request after the other; return the slots they had."""
    had = []
    for session in sessions:
        slot = slots.acquire(session)
        if not session or slot.session != session:
            slots.assign(slot, session)
        slots.release(slot)
        had.append(slot.index)
    return had


@pytest.mark.parametrize(
    ("count", "sessions", "expected"),
    [
        (2, ["x", "y", "x", "y", "x"], [0, 1, 0, 1, 0]),  # each comes back to its own
        (3, ["x", "", "x", "", ""], [0, 1, 0, 2, 1]),  # who has no name takes what nobody comes back to
        (2, ["x", "y", "x", "z", "x", "z"], [0, 1, 0, 1, 0, 1]),  # a new one takes the one used longest ago
        (2, ["x", "y", ""], [0, 1, 0]),
        (1, ["x", "y", "x"], [0, 0, 0]),
    ],
)
def test_sessions_get_the_expected_slots(count: int, sessions: list[str], expected: list[int]) -> None:
    assert serve(Slots(count), *sessions) == expected


def test_a_session_whose_slot_is_busy_gets_another_and_keeps_its_own() -> None:
    slots = Slots(2)
    serve(slots, "x")
    main, side = slots.acquire("x"), slots.acquire("x")
    slots.assign(side, "x")
    assert (main.index, side.index, side.session) == (0, 1, "")
    slots.release(side)
    slots.release(main)
    assert serve(slots, "x") == [0]


def test_unsaved_idle_slots_are_listed_latest_first() -> None:
    slots = Slots(4)
    serve(slots, "x", "y", "", "z", "x")
    busy = slots.acquire("z")
    assert [slot.session for slot in slots.unsaved_latest_first()] == ["x", "y"]
    slots.release(busy)
    slots.all[0].unsaved = False  # x was written to disk
    assert [slot.session for slot in slots.unsaved_latest_first()] == ["z", "y"]


def test_a_slot_that_the_engine_chose_is_assigned_to_the_session() -> None:
    slots = Slots(3)
    serve(slots, "x", "y")
    taken = slots.acquire("new")  # slot 2, but the engine served it in slot 0
    slots.assign_served("new", {0})
    slots.release(taken, served=False)
    assert [(slot.session, slot.unsaved) for slot in slots.all] == [("new", True), ("y", True), ("", False)]
    slots.assign_served("y", {0, 1})  # two at once: it is not known whose is whose
    assert [slot.session for slot in slots.all] == ["", "", ""]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3))), st.integers(1, 3))
def test_no_slot_is_used_twice_and_no_session_has_two_slots(steps: list[tuple[str, int]], count: int) -> None:
    slots, taken = Slots(count), list[Slot]()
    for session, which in steps:
        if len(taken) < count:
            slot = slots.acquire(session)
            assert slot not in taken
            if slot.session != session:
                slots.assign(slot, session)
            taken.append(slot)
        else:
            slots.release(taken.pop(which % count))
        held = [slot.session for slot in slots.all if slot.session]
        assert len(held) == len(set(held))
        assert sum(slot.busy for slot in slots.all) == len(taken)

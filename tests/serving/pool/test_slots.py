from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.serving.pool.slots import Slot, Slots


def serve(slots: Slots, *sessions: str) -> list[int]:
    """Serve requests one after the other; return the index of each one's slot."""
    indexes = []
    for session in sessions:
        slot = slots.acquire(session)
        if not session or slot.session != session:
            slots.assign(slot, session)
        slots.release(slot)
        indexes.append(slot.index)
    return indexes


@pytest.mark.parametrize(
    ("count", "sessions", "expected"),
    [
        (2, ["x", "y", "x", "y", "x"], [0, 1, 0, 1, 0]),  # each returns to its own slot
        (3, ["x", "", "x", "", ""], [0, 1, 0, 2, 1]),  # without a session, a slot that no session returns to
        (
            2,
            ["x", "y", "x", "z", "x", "z"],
            [0, 1, 0, 1, 0, 1],
        ),  # a new session takes the least recently used slot
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
    slots.all[0].unsaved = False  # x was saved
    assert [slot.session for slot in slots.unsaved_latest_first()] == ["z", "y"]


def test_a_slot_that_the_engine_chose_is_assigned_to_the_session() -> None:
    slots = Slots(3)
    serve(slots, "x", "y")
    in_use = slots.acquire("new")  # slot 2, but the engine served it in slot 0
    slots.assign_served("new", {0})
    slots.release(in_use, served=False)
    assert [(slot.session, slot.unsaved) for slot in slots.all] == [("new", True), ("y", True), ("", False)]
    slots.assign_served("y", {0, 1})  # two at once: which slot is whose is unknown
    assert [slot.session for slot in slots.all] == ["", "", ""]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3))), st.integers(1, 3))
def test_no_slot_is_used_twice_and_no_session_has_two_slots(steps: list[tuple[str, int]], count: int) -> None:
    slots, in_use = Slots(count), list[Slot]()
    for session, position in steps:
        if len(in_use) < count:
            slot = slots.acquire(session)
            assert slot not in in_use
            if slot.session != session:
                slots.assign(slot, session)
            in_use.append(slot)
        else:
            slots.release(in_use.pop(position % count))
        sessions = [slot.session for slot in slots.all if slot.session]
        assert len(sessions) == len(set(sessions))
        assert sum(slot.busy for slot in slots.all) == len(in_use)

"""Which conversation has which slot of a model server. Pure.

The engine reads only what differs from the last prompt in a slot, so a conversation that returns to its own
slot costs only its new messages. Agents' conversations share long system prompts: left to itself, the engine
takes one for another and puts all of them into the same slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(slots=True, eq=False)
class Slot:
    """One of a server's slots for a conversation.

    Attributes:
        index: as the server counts, from 0.
        session: the conversation that it holds; empty if none will return to it.
        busy: a request uses it.
        last_used: when it was released last, counted in releases of the server's slots; 0 means never.
        unsaved: it has changed since it was last written to disk.
    """

    index: int
    session: str = ""
    busy: bool = False
    last_used: int = 0
    unsaved: bool = False


class Slots:
    """The slots of one server, from its start to its end."""

    def __init__(self, count: int) -> None:
        self.all = [Slot(index) for index in range(count)]
        self._by_session: dict[str, Slot] = {}
        self._releases = 0

    def acquire(self, session: str) -> Slot:
        """Return a free slot, now busy: the session's own, else the one whose contents are worth least.

        That is one without a session, else the one used longest ago. The slot still has its old session: the
        caller calls `assign` once its contents have changed. If another request uses the session's own slot,
        waiting for it would cost more than it saves: such a request is a side question of the same client,
        a title for instance, and short.

        Raises:
            ValueError: all are busy.
        """
        slot = self._by_session.get(session)
        if slot is None or slot.busy:
            slot = min([slot for slot in self.all if not slot.busy], key=_worth)
        slot.busy = True
        return slot

    def assign(self, slot: Slot, session: str) -> None:
        """Note which conversation a slot holds from now on.

        A session has one slot: a second one that it uses at the same time gets no session.
        """
        if self._by_session.get(slot.session) is slot:
            del self._by_session[slot.session]
        slot.session = "" if session in self._by_session else session
        if slot.session:
            self._by_session[session] = slot
        slot.unsaved = False

    def has(self, session: str) -> bool:
        """Return whether a slot holds a conversation."""
        return session in self._by_session

    def assign_served(self, session: str, indexes: Collection[int]) -> None:
        """Note in which slots the engine may have served a request, if it chose the slot itself.

        If there are several, it is not known which of them holds which conversation.
        """
        for index in indexes:
            slot = self.all[index]
            self.assign(slot, session if len(indexes) == 1 else "")
            self._note_change(slot)

    def release(self, slot: Slot, *, served: bool = True) -> None:
        """Make a slot free; `served` says that its request has changed its contents."""
        slot.busy = False
        if served:
            self._note_change(slot)

    def _note_change(self, slot: Slot) -> None:
        self._releases += 1
        slot.unsaved, slot.last_used = bool(slot.session), self._releases

    def unsaved_latest_first(self) -> list[Slot]:
        """Return the idle slots whose contents are not on disk, the latest used first."""
        unsaved = [slot for slot in self.all if slot.unsaved and not slot.busy]
        return sorted(unsaved, key=lambda slot: -slot.last_used)


def _worth(slot: Slot) -> tuple[bool, int]:
    return bool(slot.session), slot.last_used

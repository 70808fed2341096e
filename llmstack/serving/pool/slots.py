"""Which conversation has which slot of a model server. Pure.

The engine reads again what differs from the last prompt in a slot, so a conversation that comes back to its
own slot costs its new words only. Agents' conversations share long system prompts: left to itself, the engine
takes them for one another and puts all of them into one slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(slots=True, eq=False)
class Slot:
    """One of a server's places for a conversation.

    Attributes:
        index: as the server counts, from 0.
        session: whose conversation it holds; empty where nobody will come back for it.
        busy: a request has it.
        used: when it was given back last, in turns of its server; 0 is never.
        unsaved: it has changed since it was last written to disk, if it ever was.
    """

    index: int
    session: str = ""
    busy: bool = False
    used: int = 0
    unsaved: bool = False


class Slots:
    """The slots of one server, from its start to its end."""

    def __init__(self, count: int) -> None:
        self.all = [Slot(index) for index in range(count)]
        self._of: dict[str, Slot] = {}  # by session
        self._turn = 0

    def take(self, session: str) -> Slot:
        """Return a free slot, now busy: the session's own, else the one that is missed least.

        That is one that nobody comes back to, else the one used longest ago.

        What the slot holds is still what it says; whoever took it calls `holds` once that has changed.
        Waiting for the session's own slot, where another request has it, would cost more than it saves: such
        a request is a side question of the same client, a title for instance, and short.

        Raises:
            ValueError: all are busy.
        """
        taken = self._of.get(session)
        if taken is None or taken.busy:
            taken = min([slot for slot in self.all if not slot.busy], key=_missed)
        taken.busy = True
        return taken

    def holds(self, slot: Slot, session: str) -> None:
        """Note whose conversation a slot holds from now on.

        A session has one slot: what it does in a second one meanwhile is nothing to come back to.
        """
        if self._of.get(slot.session) is slot:
            del self._of[slot.session]
        slot.session = "" if session in self._of else session
        if slot.session:
            self._of[session] = slot
        slot.unsaved = False

    def has(self, session: str) -> bool:
        """Return whether a slot holds a session's conversation."""
        return session in self._of

    def served(self, session: str, where: Collection[int]) -> None:
        """Note in which slots the engine has served a session's request, where it chose itself.

        More than one, and it is not known whose is whose.
        """
        for index in where:
            slot = self.all[index]
            self.holds(slot, session if len(where) == 1 else "")
            self._changed(slot)

    def give_back(self, slot: Slot, *, served: bool = True) -> None:
        """Take a slot back; `served` says that its request has changed what it holds."""
        slot.busy = False
        if served:
            self._changed(slot)

    def _changed(self, slot: Slot) -> None:
        self._turn += 1
        slot.unsaved, slot.used = bool(slot.session), self._turn

    def latest_first(self) -> list[Slot]:
        """Return the idle slots whose conversations are not on disk as they are, the latest first."""
        waiting = [slot for slot in self.all if slot.unsaved and not slot.busy]
        return sorted(waiting, key=lambda slot: -slot.used)


def _missed(slot: Slot) -> tuple[bool, int]:
    return bool(slot.session), slot.used

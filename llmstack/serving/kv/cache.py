"""Prompt caches that survive swaps: what a slot holds is saved before it is lost, and restored on return.

Restoring waits until a conversation comes back: a model that is loaded for one request does not read the
caches of all the others first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.serving.kv.costs import FIRST_TOKENS, Costs, load_costs, store_costs
from llmstack.serving.kv.files import DamagedError

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.serving.kv.files import KvFiles
    from llmstack.serving.kv.identity import KvPlace
    from llmstack.serving.kv.llama_cpp_slots import LlamaCppSlots
    from llmstack.serving.pool.slots import Slot, Slots

_log = logging.getLogger(__name__)

ENTER_S = 20.0  # for one request that waits while slots are exchanged
ASK_S = 1.0
LEAVE_S = 30.0  # for all slots of a model that is stopped; whoever stops the router waits for that, too
COSTS = "costs.json"
MARGIN = 1.1  # the last save said how large a token is; the next may differ a little


class ModelKv:
    """The prompt caches of one model server, from its start to its end.

    Args:
        tier: its name.
        engine: its slots.
        place: where it writes.
        files: all saved caches.
    """

    def __init__(self, tier: str, engine: LlamaCppSlots, place: KvPlace, files: KvFiles) -> None:
        self._tier = tier
        self._engine = engine
        self._place = place
        self._files = files
        self._costs: Costs = load_costs(place.directory / COSTS)

    async def enter(self, slots: Slots, slot: Slot, session: str) -> str:
        """Make a slot ready for a session: save what it holds, restore what the session left.

        Whatever goes wrong, the request goes on, cold. Returns what happened in words; empty where nothing.
        """
        if session and slot.session == session:
            return ""
        if not slot.unsaved and (not session or slots.has(session)):
            slots.holds(slot, session)  # nothing to exchange
            return ""
        said = ""
        try:
            async with asyncio.timeout(ENTER_S):
                if slot.unsaved:
                    await self._save(slot, (await self._engine.held())[slot.index].tokens)
                slots.holds(slot, "")
                if session and not slots.has(session):
                    said = await self._restore(slot, session)
        except DamagedError as error:
            said = f"cold: {error.message}"
        except (LlmstackError, OSError, KeyError, TimeoutError) as error:
            _log.warning("%s: exchanging the prompt in slot %d: %s", self._tier, slot.index, _words(error))
        slots.holds(slot, session)
        return said

    async def tasks(self) -> dict[int, int]:
        """Return the number of the request that each slot served last; empty where it is not known."""
        try:
            async with asyncio.timeout(ASK_S):
                return {index: held.task for index, held in (await self._engine.held()).items()}
        except (LlmstackError, TimeoutError):
            return {}

    def keeps(self, session: str) -> bool:
        """Return whether something of a session is on disk."""
        return bool(session) and self._files.file(self._place.identity, session).exists()

    async def leave(self, slots: Slots) -> None:
        """Save what idle slots hold, the latest first, before the server is stopped."""
        ends = time.monotonic() + LEAVE_S
        try:
            async with asyncio.timeout(LEAVE_S):
                waiting = slots.latest_first()
                held = await self._engine.held() if waiting else {}
                for slot in waiting:
                    about = held[slot.index]
                    # What cannot end in time is not begun; a busy one would make the others wait for it.
                    if not about.busy and self._costs.saving_takes(about.tokens) < ends - time.monotonic():
                        await self._save(slot, about.tokens)
        except (LlmstackError, OSError, KeyError, TimeoutError) as error:
            _log.warning("%s: saving its prompts: %s", self._tier, _words(error))

    async def _save(self, slot: Slot, tokens: int) -> None:
        """Save a slot, where that pays and there is room. A failure costs what it holds, and nothing else."""
        try:
            await self._measure_reading()
            if self._costs.saves(tokens):
                await self._write(slot, tokens)
        except (LlmstackError, OSError) as error:
            _log.warning("%s: saving the prompt in slot %d: %s", self._tier, slot.index, _words(error))

    async def _write(self, slot: Slot, tokens: int) -> None:
        path = self._files.file(self._place.identity, slot.session)
        await asyncio.to_thread(self._files.prepare, self._place.identity)  # a person may have removed it
        async with self._files.room_for(self._size(tokens), path) as room:
            if not room:
                _log.info("%s: kv_cache_gb, or the disk, has no room for %d tokens", self._tier, tokens)
                return
            started = time.monotonic()
            saved, written = await self._written(slot, path)
        took = time.monotonic() - started
        slot.unsaved = False
        self._costs.learn("save_s", saved, took)
        self._costs.learn("token_bytes", saved, written)
        await self._keep_costs()
        _log.info("%s: saved %d tokens (%.1f MB) in %.2f s", self._tier, saved, written / 1024**2, took)

    async def _written(self, slot: Slot, path: Path) -> tuple[int, int]:
        """Have a slot written, take the file over if it is whole, and return its tokens and bytes."""
        part = self._files.part(path)
        try:
            saved, written = await self._engine.save(slot.index, part.name)
            if saved == 0 or part.stat().st_size != written:
                raise LlmstackError(f"the server wrote {written} bytes, {part.stat().st_size} are on disk")
            tier, model = self._tier, self._place.model
            await asyncio.to_thread(self._files.commit, path, tier=tier, model=model, tokens=saved)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return saved, written

    def _size(self, tokens: int) -> int:
        """Return the bytes that a file of so many tokens will take, or a little less than those."""
        of_token = self._costs.token_bytes or self._place.token_bytes
        return min(self._place.most_bytes, round(MARGIN * of_token * tokens))

    async def _restore(self, slot: Slot, session: str) -> str:
        path = self._files.file(self._place.identity, session)
        started = time.monotonic()
        note = await asyncio.to_thread(self._files.check, path)
        if note is None:
            return ""
        restored = await self._engine.restore(slot.index, path.name)
        took = time.monotonic() - started
        self._costs.learn("restore_s", restored, took)
        await self._keep_costs()
        text = f"restored {restored} tokens in {took:.2g} s"
        _log.info("%s: %s", self._tier, text)
        return text

    async def _measure_reading(self) -> None:
        tokens, seconds = await self._engine.reading()
        if tokens >= FIRST_TOKENS and seconds:  # a few words take longer, each
            self._costs.learn("read_s", round(tokens), seconds)

    async def _keep_costs(self) -> None:
        try:
            await asyncio.to_thread(store_costs, self._place.directory / COSTS, self._costs)
        except LlmstackError as error:
            _log.warning("%s: %s", self._tier, error.message)


def _words(error: Exception) -> str:
    return error.message if isinstance(error, LlmstackError) else repr(error)

"""Prompt caches that survive swaps: a slot's contents are saved before they are lost, and restored later.

A cache is restored only when its conversation returns: a model that is loaded for one request does not read
the caches of all other conversations first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.serving.kv.costs import FIRST_TOKENS, Costs, load_costs, store_costs
from llmstack.serving.kv.files import DamagedCacheError
from llmstack.units import MB

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.serving.kv.files import PromptCacheFiles
    from llmstack.serving.kv.identity import KvDirectory
    from llmstack.serving.kv.llama_cpp_slots import LlamaCppSlots
    from llmstack.serving.pool.slots import Slot, Slots

_log = logging.getLogger(__name__)

SWITCH_S = 20.0  # for one request that waits while a slot is saved and restored
QUERY_S = 1.0
SAVE_ALL_S = 30.0  # for all slots of a model that is stopped; stopping the router waits for it, too
COSTS_FILE = "costs.json"
SIZE_MARGIN = 1.1  # the next save may need a little more for each token than the last one


class ModelKv:
    """The prompt caches of one model server, from its start to its end.

    Args:
        tier: its name.
        engine: its slots.
        directory: where it saves their contents.
        files: all saved caches.
    """

    def __init__(
        self, tier: str, engine: LlamaCppSlots, directory: KvDirectory, files: PromptCacheFiles
    ) -> None:
        self._tier = tier
        self._engine = engine
        self._directory = directory
        self._files = files
        self._costs: Costs = load_costs(directory.path / COSTS_FILE)

    async def switch_to(self, slots: Slots, slot: Slot, session: str) -> str:
        """Prepare a slot for a session: save its contents, restore what was saved of the session.

        If something goes wrong, the request continues without a cache. Returns what was done, in words; empty
        if nothing was.
        """
        if session and slot.session == session:
            return ""
        if not slot.unsaved and (not session or slots.has(session)):
            slots.assign(slot, session)  # nothing to save or restore
            return ""
        result = ""
        try:
            async with asyncio.timeout(SWITCH_S):
                if slot.unsaved:
                    await self._save(slot, (await self._engine.contents())[slot.index].tokens)
                slots.assign(slot, "")
                if session and not slots.has(session):
                    result = await self._restore(slot, session)
        except DamagedCacheError as error:
            result = f"cold: {error.message}"
        except (LlmstackError, OSError, KeyError, TimeoutError) as error:
            _log.warning(
                "%s: switching the prompt cache in slot %d failed: %s",
                self._tier,
                slot.index,
                _message(error),
            )
        slots.assign(slot, session)
        return result

    async def slot_tasks(self) -> dict[int, int]:
        """Return by slot the number of the request that it served last; empty if it is not known."""
        try:
            async with asyncio.timeout(QUERY_S):
                return {index: contents.task for index, contents in (await self._engine.contents()).items()}
        except (LlmstackError, TimeoutError):
            return {}

    def has_saved(self, session: str) -> bool:
        """Return whether a cache of the session is on disk."""
        return bool(session) and self._files.path_for(self._directory.identity, session).exists()

    async def save_all(self, slots: Slots) -> None:
        """Save the contents of idle slots, the latest used first, before the server is stopped."""
        deadline = time.monotonic() + SAVE_ALL_S
        try:
            async with asyncio.timeout(SAVE_ALL_S):
                unsaved = slots.unsaved_latest_first()
                by_slot = await self._engine.contents() if unsaved else {}
                for slot in unsaved:
                    contents = by_slot[slot.index]
                    # A save that cannot end in time is not started; a busy slot would make the others wait.
                    fits = self._costs.save_seconds(contents.tokens) < deadline - time.monotonic()
                    if fits and not contents.busy:
                        await self._save(slot, contents.tokens)
        except (LlmstackError, OSError, KeyError, TimeoutError) as error:
            _log.warning("%s: saving its prompt caches failed: %s", self._tier, _message(error))

    async def _save(self, slot: Slot, tokens: int) -> None:
        """Save a slot if that is worth it and there is room. A failure loses only its contents."""
        try:
            await self._measure_read_speed()
            if self._costs.is_worth_saving(tokens):
                await self._write(slot, tokens)
        except (LlmstackError, OSError) as error:
            _log.warning(
                "%s: saving the prompt cache in slot %d failed: %s", self._tier, slot.index, _message(error)
            )

    async def _write(self, slot: Slot, tokens: int) -> None:
        path = self._files.path_for(self._directory.identity, slot.session)
        await asyncio.to_thread(
            self._files.prepare_directory, self._directory.identity
        )  # the user may have removed it
        async with self._files.reserve(self._estimated_size(tokens), path) as fits:
            if not fits:
                _log.info("%s: no room for %d tokens within kv_cache_gb or on the disk", self._tier, tokens)
                return
            started = time.monotonic()
            saved, size = await self._save_to(slot, path)
        seconds = time.monotonic() - started
        slot.unsaved = False
        self._costs.learn("save_s", saved, seconds)
        self._costs.learn("token_bytes", saved, size)
        await self._store_costs()
        _log.info("%s: saved %d tokens (%.1f MB) in %.2f s", self._tier, saved, size / MB, seconds)

    async def _save_to(self, slot: Slot, path: Path) -> tuple[int, int]:
        """Save a slot to a file, commit the file if it is complete, and return its tokens and bytes."""
        part = self._files.part_path(path)
        try:
            saved, size = await self._engine.save(slot.index, part.name)
            if saved == 0 or part.stat().st_size != size:
                raise LlmstackError(f"the server wrote {size} bytes, {part.stat().st_size} are on disk")
            tier, model = self._tier, self._directory.model
            await asyncio.to_thread(self._files.commit, path, tier=tier, model=model, tokens=saved)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return saved, size

    def _estimated_size(self, tokens: int) -> int:
        """Return about how many bytes a file of so many tokens will take."""
        token_bytes = self._costs.token_bytes or self._directory.token_bytes
        return min(self._directory.max_bytes, round(SIZE_MARGIN * token_bytes * tokens))

    async def _restore(self, slot: Slot, session: str) -> str:
        path = self._files.path_for(self._directory.identity, session)
        started = time.monotonic()
        metadata = await asyncio.to_thread(self._files.verify, path)
        if metadata is None:
            return ""
        restored = await self._engine.restore(slot.index, path.name)
        seconds = time.monotonic() - started
        self._costs.learn("restore_s", restored, seconds)
        await self._store_costs()
        text = f"restored {restored} tokens in {seconds:.2g} s"
        _log.info("%s: %s", self._tier, text)
        return text

    async def _measure_read_speed(self) -> None:
        tokens, seconds = await self._engine.prompt_totals()
        if tokens >= FIRST_TOKENS and seconds:  # short prompts take longer for each token
            self._costs.learn("read_s", round(tokens), seconds)

    async def _store_costs(self) -> None:
        try:
            await asyncio.to_thread(store_costs, self._directory.path / COSTS_FILE, self._costs)
        except LlmstackError as error:
            _log.warning("%s: %s", self._tier, error.message)


def _message(error: Exception) -> str:
    return error.message if isinstance(error, LlmstackError) else repr(error)

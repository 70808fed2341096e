"""Saved prompt caches on disk: one file and one note for each conversation, checked before every use.

Layout: `<root>/<identity>/<conversation>.kv` and `.json`. The identity names everything that makes a file
valid for a model server (`kv_identity`). The engine writes under another name; the file gets its own once it
is whole. Its note says the file's digest: a file without its note, or with a wrong one, is nothing. The
engine dies of a truncated file and takes one of another model without complaint.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.process.identity import Identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

GB = 1024**3
SHARE_OF_FREE, MOST_BYTES = 0.1, 20 * GB
MOST_OF_FREE = 0.9  # others may have filled the disk since, and need some of it
BLOCK = 32 * 1024 * 1024  # what one thread hashes at a time
THREADS = 4
PRIVATE_DIR, PRIVATE_FILE = 0o700, 0o600


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of one saved conversation.

    Attributes:
        tier: its name when it was saved; `model` the file that it ran.
        size: in bytes; `digest` of the file.
    """

    tier: str
    model: str
    tokens: int
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One saved conversation. `used` is seconds since the epoch: when it was saved or restored last."""

    path: Path
    note: Note
    used: float


class DamagedError(LlmstackError):
    """A saved prompt cache that must not be used; it has been removed."""


class KvFiles:
    """The files of all projects of a user, inside one budget.

    Args:
        root: their directory.
        budget: bytes for all of them; the one used longest ago goes first.
    """

    def __init__(self, root: Path, budget: int) -> None:
        self.root = root
        self.budget = budget
        self._making_room = asyncio.Lock()
        self._promised = 0
        self._writer = Identity.from_pid(os.getpid()) or Identity(os.getpid(), 0)

    def prepare(self, identity: str) -> Path:
        """Return the directory that a server with this identity writes to, made where it is missing.

        What a router that was killed has left half-written is removed.
        """
        directory = self.root / identity
        directory.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
        self.root.chmod(PRIVATE_DIR)
        self._sweep()
        return directory

    def file(self, identity: str, session: str) -> Path:
        """Return where the cache of a conversation is, or would be; the name says nothing of it."""
        return self.root / identity / f"{hashlib.sha256(session.encode()).hexdigest()[:32]}.kv"

    def part(self, path: Path) -> Path:
        """Return where the engine is to write what becomes `path`; it names who is at it."""
        return path.with_name(f"{path.stem}.{self._writer.token}.part")

    @contextlib.asynccontextmanager
    async def room_for(self, size: int, replaced: Path) -> AsyncIterator[bool]:
        """Keep room for a file while it is written; yields whether there is any.

        Two at once do not take the same room, nor wait for one another.
        """
        async with self._making_room:
            there = await asyncio.to_thread(self.make_room, size + self._promised, replaced)
            size = size if there else 0
            self._promised += size
        try:
            yield there
        finally:
            self._promised -= size

    def make_room(self, size: int, replaced: Path | None = None) -> bool:
        """Remove what was used longest ago until `size` more bytes fit; return whether they do.

        Args:
            size: bytes.
            replaced: the file that they will take the place of: it goes first.
        """
        taken = self.total()
        room = min(self.budget, taken + round(shutil.disk_usage(self.root).free * MOST_OF_FREE))
        if size > room:
            return False
        total = taken + size
        for entry in sorted(self.entries(), key=lambda entry: entry.path != replaced):
            if total <= room:
                break
            total -= entry.note.size
            self.remove(entry.path)
        return total <= room

    def commit(self, path: Path, *, tier: str, model: str, tokens: int) -> Note:
        """Take over what the engine wrote to `part(path)`.

        Raises:
            OSError: it cannot be read, or there is no room for its note.
        """
        part = self.part(path)
        part.chmod(PRIVATE_FILE)
        note = Note(tier, model, tokens, part.stat().st_size, digest(part))
        # First the note, which takes a while: a file without one is swept away, by whoever prepares anything.
        write_atomic(_note_of(path), json.dumps(asdict(note)), mode=PRIVATE_FILE)
        try:
            part.replace(path)
        except OSError:
            self.remove(path)
            raise
        if self.total() > self.budget:
            self.make_room(0)
        return note

    def check(self, path: Path) -> Note | None:
        """Return the note of a file that is whole, and mark it as used; None where there is no such file.

        Raises:
            DamagedError: it is not what was written; it is removed.
        """
        if not path.exists():
            return None
        note = _read_note(path)
        if note is None or path.stat().st_size != note.size or digest(path) != note.digest:
            self.remove(path)
            raise DamagedError("the saved cache was damaged")
        os.utime(path)
        return note

    def known(self, path: Path) -> Note | None:
        """Return the note of a file without reading the file."""
        return _read_note(path) if path.exists() else None

    def remove(self, path: Path) -> None:
        """Remove a file and its note."""
        for gone in (path, _note_of(path)):
            gone.unlink(missing_ok=True)

    def entries(self) -> list[CacheEntry]:
        """Return every saved conversation, the one used longest ago first."""
        found = []
        for path in self.root.glob("*/*.kv"):
            note = _read_note(path)
            with contextlib.suppress(OSError):  # another router may remove it meanwhile
                if note is not None:
                    found.append(CacheEntry(path, note, path.stat().st_mtime))
        return sorted(found, key=lambda entry: entry.used)

    def total(self) -> int:
        """Return the bytes of all files."""
        total = 0
        for path in self._all_files():
            with contextlib.suppress(OSError):  # as above
                total += path.stat().st_size
        return total

    def clear(self) -> int:
        """Remove everything but the directories, where servers write; return the bytes that were freed."""
        freed = self.total()
        for path in self._all_files():
            path.unlink(missing_ok=True)
        return freed

    def _all_files(self) -> Iterator[Path]:
        return (path for path in self.root.glob("*/*") if path.is_file())

    def _sweep(self) -> None:
        """Remove what nobody will finish or can use."""
        for part in self.root.glob("*/*.part"):
            if not _is_written(part):
                part.unlink(missing_ok=True)
        for path in self.root.glob("*/*.kv"):
            if not _note_of(path).exists():
                path.unlink(missing_ok=True)


def budget_bytes(setting_gb: float | None, root: Path) -> int:
    """Return the budget: what models.ini says, else a tenth of what is free, at most 20 GB.

    Args:
        setting_gb: `kv_cache_gb`.
        root: where the files are; what they take counts as free.
    """
    if setting_gb is not None:
        return round(setting_gb * GB)
    there = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(there).free + KvFiles(root, 0).total()
    return min(MOST_BYTES, round(free * SHARE_OF_FREE))


def digest(path: Path) -> str:
    """Return a digest of a file: of the SHA-256 of its blocks, which threads hash side by side.

    Reading it costs little more than one core's share: a cache has gigabytes, and a request waits for it.
    """
    size = path.stat().st_size

    def of_block(start: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(BLOCK)).digest()

    with ThreadPoolExecutor(THREADS) as threads:
        blocks = b"".join(threads.map(of_block, range(0, size, BLOCK)))
    return hashlib.sha256(blocks).hexdigest()


def _note_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _is_written(part: Path) -> bool:
    """Return whether the process that had it written still runs."""
    try:
        return Identity.from_token(part.stem.partition(".")[2]).is_alive
    except ValueError:
        return False


def _read_note(path: Path) -> Note | None:
    try:
        return Note(**json.loads(_note_of(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None

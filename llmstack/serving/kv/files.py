"""Saved prompt caches on disk: two files for each conversation, verified before every use.

Layout: `<root>/<identity>/<conversation>.kv` with the cache, and `.json` with its metadata. The identity
covers everything that makes a cache valid for a model server (`kv_identity`). The engine writes to a `.part`
file, which is renamed once it is complete. The metadata has the digest of the cache: without metadata, or
with a wrong digest, a cache is not used. The engine would crash on a truncated file, and load one of another
model without an error.
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
from llmstack.files import remove_left_behind, write_atomic
from llmstack.process.identity import Identity
from llmstack.units import GB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

DEFAULT_DISK_SHARE, MAX_DEFAULT_BYTES = 0.1, 20 * GB  # the budget if models.ini sets none
MAX_DISK_SHARE = 0.9  # of the free disk: the budget may be older than the files that fill it now
BLOCK = 32 * 1024 * 1024  # what one thread hashes at a time
THREADS = 4
PRIVATE_DIR, PRIVATE_FILE = 0o700, 0o600


@dataclass(frozen=True, slots=True)
class CacheMetadata:
    """The metadata of one saved conversation, as its `.json` file holds it.

    Attributes:
        tier: its name when the cache was saved.
        model: label of the model.
        tokens: how many tokens the cache holds.
        size: of the cache file, in bytes.
        digest: of the cache file (`digest`).
    """

    tier: str
    model: str
    tokens: int
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One saved conversation.

    Attributes:
        path: of the cache file.
        metadata: of the conversation.
        last_used: when it was last saved or restored, in seconds since the epoch.
    """

    path: Path
    metadata: CacheMetadata
    last_used: float


class DamagedCacheError(LlmstackError):
    """A saved prompt cache is damaged; it has been removed."""


class PromptCacheFiles:
    """The saved prompt caches of all projects of a user, kept within one budget.

    Args:
        root: their directory.
        budget: bytes for all of them; the least recently used are removed first.
    """

    def __init__(self, root: Path, budget: int) -> None:
        self.root = root
        self.budget = budget
        self._reserving = asyncio.Lock()
        self._reserved_bytes = 0
        self._writer = Identity.from_pid(os.getpid()) or Identity(os.getpid(), 0)

    def prepare_directory(self, identity: str) -> Path:
        """Return the directory that a server with this identity writes to, created if missing.

        Files that a killed router left incomplete are removed.
        """
        directory = self.root / identity
        directory.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
        self.root.chmod(PRIVATE_DIR)
        self._remove_incomplete()
        return directory

    def path_for(self, identity: str, session: str) -> Path:
        """Return the path of a conversation's cache, which may not exist; it does not reveal the session."""
        return self.root / identity / f"{hashlib.sha256(session.encode()).hexdigest()[:32]}.kv"

    def part_path(self, path: Path) -> Path:
        """Return the path that the engine writes to before `commit`; it names the process of this router."""
        return path.with_name(f"{path.stem}.{self._writer.token}.part")

    @contextlib.asynccontextmanager
    async def reserve(self, size: int, replaced: Path) -> AsyncIterator[bool]:
        """Reserve disk space for a file while it is written; yield whether there is enough.

        Concurrent writers get different space, and none waits until another has written.

        Args:
            size: bytes.
            replaced: the file that the new one replaces.
        """
        async with self._reserving:
            fits = await asyncio.to_thread(self.evict_to_fit, size + self._reserved_bytes, replaced)
            size = size if fits else 0
            self._reserved_bytes += size
        try:
            yield fits
        finally:
            self._reserved_bytes -= size

    def evict_to_fit(self, size: int, replaced: Path | None = None) -> bool:
        """Remove the least recently used caches until `size` more bytes fit; return whether they do.

        Args:
            size: bytes.
            replaced: the file that the new one replaces: it is removed first.
        """
        total = self.total_bytes()
        limit = min(self.budget, total + round(shutil.disk_usage(self.root).free * MAX_DISK_SHARE))
        if size > limit:
            return False
        total += size
        for entry in sorted(self.entries(), key=lambda entry: entry.path != replaced):
            if total <= limit:
                break
            total -= entry.metadata.size
            self.remove(entry.path)
        return total <= limit

    def commit(self, path: Path, *, tier: str, model: str, tokens: int) -> CacheMetadata:
        """Turn the file that the engine wrote to `part_path(path)` into the cache at `path`.

        Raises:
            OSError: it cannot be read, or there is no disk space for its metadata.
        """
        part = self.part_path(path)
        part.chmod(PRIVATE_FILE)
        metadata = CacheMetadata(tier, model, tokens, part.stat().st_size, digest(part))
        # Metadata first: another router removes a cache that has none (`_remove_incomplete`).
        write_atomic(_metadata_path(path), json.dumps(asdict(metadata)), mode=PRIVATE_FILE)
        try:
            part.replace(path)
        except OSError:
            self.remove(path)
            raise
        if self.total_bytes() > self.budget:
            self.evict_to_fit(0)
        return metadata

    def verify(self, path: Path) -> CacheMetadata | None:
        """Return the metadata of an undamaged cache, and mark it as used; None if there is no such file.

        Raises:
            DamagedCacheError: the file is not what was written; it has been removed.
        """
        if not path.exists():
            return None
        metadata = _read_metadata(path)
        if metadata is None or path.stat().st_size != metadata.size or digest(path) != metadata.digest:
            self.remove(path)
            raise DamagedCacheError("the saved cache was damaged")
        os.utime(path)
        return metadata

    def remove(self, path: Path) -> None:
        """Remove a cache and its metadata."""
        path.unlink(missing_ok=True)
        _metadata_path(path).unlink(missing_ok=True)

    def entries(self) -> list[CacheEntry]:
        """Return every saved conversation, the least recently used first."""
        entries = []
        for path in self.root.glob("*/*.kv"):
            metadata = _read_metadata(path)
            with contextlib.suppress(OSError):  # another router may remove it meanwhile
                if metadata is not None:
                    entries.append(CacheEntry(path, metadata, path.stat().st_mtime))
        return sorted(entries, key=lambda entry: entry.last_used)

    def total_bytes(self) -> int:
        """Return the size of all files."""
        total = 0
        for path in self._all_files():
            with contextlib.suppress(OSError):  # as above
                total += path.stat().st_size
        return total

    def clear(self) -> int:
        """Remove every file, but no directory, since servers write to them; return the bytes freed."""
        freed = self.total_bytes()
        for path in self._all_files():
            path.unlink(missing_ok=True)
        return freed

    def _all_files(self) -> Iterator[Path]:
        return (path for path in self.root.glob("*/*") if path.is_file())

    def _remove_incomplete(self) -> None:
        """Remove what killed routers left: partial files, and half of a cache and its metadata."""
        for part in self.root.glob("*/*.part"):
            if not _has_writer(part):
                part.unlink(missing_ok=True)
        for path in self.root.glob("*/*.kv"):
            if not _metadata_path(path).exists():
                path.unlink(missing_ok=True)
        for directory in self.root.glob("*/"):
            remove_left_behind(directory)
            for metadata in directory.glob("*.json"):
                if not metadata.with_suffix(".kv").exists():
                    remove_left_behind(directory, metadata.name)


def budget_bytes(setting_gb: float | None, root: Path) -> int:
    """Return the budget: the value of models.ini, or a tenth of the free disk space and at most 20 GB.

    Args:
        setting_gb: `kv_cache_gb`; None if models.ini does not set it.
        root: directory of the files; the space that they take counts as free.
    """
    if setting_gb is not None:
        return round(setting_gb * GB)
    existing = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(existing).free + PromptCacheFiles(root, 0).total_bytes()
    return min(MAX_DEFAULT_BYTES, round(free * DEFAULT_DISK_SHARE))


def digest(path: Path) -> str:
    """Return the SHA-256 of the SHA-256 digests of a file's blocks.

    Threads hash the blocks in parallel: a cache has gigabytes, and a request waits for it.
    """
    size = path.stat().st_size

    def block_digest(start: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(BLOCK)).digest()

    with ThreadPoolExecutor(THREADS) as threads:
        blocks = b"".join(threads.map(block_digest, range(0, size, BLOCK)))
    return hashlib.sha256(blocks).hexdigest()


def _metadata_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _has_writer(part: Path) -> bool:
    """Return whether the router that the partial file belongs to still runs."""
    try:
        return Identity.from_token(part.stem.partition(".")[2]).is_alive
    except ValueError:
        return False


def _read_metadata(path: Path) -> CacheMetadata | None:
    try:
        return CacheMetadata(**json.loads(_metadata_path(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None

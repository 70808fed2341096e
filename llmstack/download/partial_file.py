"""An unfinished download: its bytes in `<name>.part`, its progress in `<name>.part.json`."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

SAVE_INTERVAL_BYTES = 64 * 1024
PAGE_BYTES = 4096
ByteRange = tuple[int, int]


@dataclass(slots=True)
class ByteRanges:
    """A set of bytes, as half-open ranges `[start, end)` that are sorted and do not touch."""

    ranges: list[ByteRange] = field(default_factory=list)

    def add(self, start: int, end: int) -> None:
        """Add a range, and merge it with the ranges it touches."""
        separate = [item for item in self.ranges if item[1] < start or item[0] > end]
        touching = [item for item in self.ranges if not (item[1] < start or item[0] > end)]
        merged = (min([start, *(item[0] for item in touching)]), max([end, *(item[1] for item in touching)]))
        self.ranges = sorted([*separate, merged])

    def missing(self, size: int, chunk_bytes: int) -> list[ByteRange]:
        """Return the gaps in a file of `size` bytes, in order, in pieces of at most `chunk_bytes`."""
        gaps, position = [], 0
        for start, end in [*self.ranges, (size, size)]:
            gaps += [
                (offset, min(offset + chunk_bytes, start)) for offset in range(position, start, chunk_bytes)
            ]
            position = end
        return gaps

    @property
    def total_bytes(self) -> int:
        """The number of bytes in all ranges."""
        return sum(end - start for start, end in self.ranges)


class PartialFile:
    """The unfinished file of one download; only the holder of the download's lock may use it.

    Progress is saved after the bytes it counts were written, so it never counts bytes that are not there.
    """

    def __init__(self, target: Path, *, size: int | None, sha256: str | None) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self.size: int | None = size
        self.etag: str | None = None
        self.ranges = ByteRanges()
        self._sha256 = sha256
        self._expected_size = size
        self._file: FileIO | None = None
        self._state_path = target.with_name(f"{target.name}.part.json")
        self._state_file: FileIO | None = None
        self._state_bytes = PAGE_BYTES
        self._unsaved_bytes = 0
        self._load()

    def _load(self) -> None:
        """Resume from what an earlier run saved, if that is for the same file; else start from nothing."""
        try:
            text = self._state_path.read_bytes()
            state = json.loads(text)
            ranges = [(int(start), int(end)) for start, end in state["done"]]
            length = self.path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            self.reset()
            return
        same_file = state.get("sha256") == self._sha256 and self.size in {None, state.get("size")}
        if not same_file or any(not 0 <= start < end <= length for start, end in ranges):
            self.reset()
            return
        self.size, self.etag, self._state_bytes = state.get("size"), state.get("etag"), len(text)
        for start, end in ranges:
            self.ranges.add(start, end)

    @property
    def is_complete(self) -> bool:
        """Whether every byte was written; only a checksum can say whether they are right."""
        return self.size is not None and self.ranges.total_bytes == self.size and self.path.is_file()

    def set_version(self, *, size: int, etag: str | None) -> None:
        """Record which version of the file the server has."""
        self.size, self.etag = size, etag
        self.save()

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes at an offset.

        Raises:
            LlmstackError: the disk is full, or cannot be written.
        """
        try:
            self._file = self._file or _open_for_update(self.path)
            self._file.seek(offset)
            remaining = memoryview(data)
            while remaining:
                written = self._file.write(remaining)
                self.ranges.add(offset, offset + written)
                offset, remaining = offset + written, remaining[written:]
        except OSError as error:
            raise _disk_error(self.path, error) from error
        self._unsaved_bytes += len(data)
        if self._unsaved_bytes >= SAVE_INTERVAL_BYTES:
            self.save()

    def save(self) -> None:
        """Save the progress; if the disk is full, the progress saved before stays.

        One write of whole pages in place: a killed process cannot leave half of it, it needs no new disk
        space, and it takes microseconds instead of the milliseconds of a rename. After a power failure the
        checksum decides.
        """
        state: dict[str, Any] = {
            "size": self.size,
            "etag": self.etag,
            "sha256": self._sha256,
            "done": self.ranges.ranges,
        }
        text = json.dumps(state).encode()
        with contextlib.suppress(OSError):
            self._state_file = self._state_file or _open_for_update(self._state_path)
            self._state_file.seek(0)
            # Never shorter than before, or the end of the old text would follow the new one.
            self._state_bytes = max(self._state_bytes, -(-len(text) // PAGE_BYTES) * PAGE_BYTES)
            self._state_file.write(text.ljust(self._state_bytes))
        self._unsaved_bytes = 0

    def reset(self) -> None:
        """Delete everything that was downloaded."""
        self.close()
        for path in (self._state_path, self.path):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        self.ranges, self.size, self.etag = ByteRanges(), self._expected_size, None

    def close(self) -> None:
        """Close both files."""
        for file in (self._file, self._state_file):
            if file is not None:
                file.close()
        self._file = self._state_file = None

    def finish(self, target: Path) -> None:
        """Flush the complete file to disk and rename it to `target`.

        Raises:
            LlmstackError: the disk is full, or cannot be written.
        """
        self.close()
        try:
            with self.path.open("r+b") as file:
                os.fsync(file.fileno())
            self.path.replace(target)
            self._state_path.unlink(missing_ok=True)
        except OSError as error:
            raise _disk_error(target, error) from error


def _open_for_update(path: Path) -> FileIO:
    """Open a file for writing at any offset, without truncating it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    return os.fdopen(descriptor, "r+b", buffering=0)


def _disk_error(path: Path, error: OSError) -> LlmstackError:
    return LlmstackError(
        f"cannot write {path}: {error.strerror or error}",
        hint="free some disk space or check the permissions, then run the same command again:"
        " downloaded bytes are kept",
    )

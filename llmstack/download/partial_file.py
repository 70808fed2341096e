"""A file that is half here: its bytes in `<name>.part`, what is known of it in `<name>.part.json`."""

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

SAVE_BYTES = 64 * 1024  # progress is noted after so many bytes
PAGE = 4096
Span = tuple[int, int]


@dataclass(slots=True)
class Spans:
    """Which bytes are here: spans `[start, end)`, sorted and apart from each other."""

    done: list[Span] = field(default_factory=list)

    def add(self, start: int, end: int) -> None:
        """Add a span, joining it with those it touches."""
        apart = [span for span in self.done if span[1] < start or span[0] > end]
        touched = [span for span in self.done if not (span[1] < start or span[0] > end)]
        joined = (min([start, *(span[0] for span in touched)]), max([end, *(span[1] for span in touched)]))
        self.done = sorted([*apart, joined])

    def missing(self, size: int, chunk: int) -> list[Span]:
        """Return what is not here yet, in pieces of at most `chunk` bytes, in order."""
        gaps, position = [], 0
        for start, end in [*self.done, (size, size)]:
            gaps += [(at, min(at + chunk, start)) for at in range(position, start, chunk)]
            position = end
        return gaps

    @property
    def count(self) -> int:
        """How many bytes are here."""
        return sum(end - start for start, end in self.done)


class Partial:
    """The partial file of one download; only the holder of the file's lock may touch it.

    Progress is noted after the bytes it counts were written, so that a note never promises too much.
    """

    def __init__(self, target: Path, *, size: int | None, sha256: str | None) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")
        self.size: int | None = size
        self.etag: str | None = None
        self.sha256 = sha256
        self.spans = Spans()
        self._expected_size = size
        self._file: FileIO | None = None
        self._note_file: FileIO | None = None
        self._note_bytes = PAGE
        self._unsaved = 0
        self._load()

    def _load(self) -> None:
        """Take up what an earlier run left, where it is of the same file."""
        try:
            text = self.note.read_bytes()
            note = json.loads(text)
            spans = [(int(start), int(end)) for start, end in note["done"]]
            length = self.path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            self.reset()
            return
        same = note.get("sha256") == self.sha256 and self.size in {None, note.get("size")}
        if not same or any(not 0 <= start < end <= length for start, end in spans):
            self.reset()
            return
        self.size, self.etag, self._note_bytes = note.get("size"), note.get("etag"), len(text)
        for start, end in spans:
            self.spans.add(start, end)

    @property
    def complete(self) -> bool:
        """Whether every byte is here; whether they are right is for the checksum to say."""
        return self.size is not None and self.spans.count == self.size and self.path.is_file()

    def describe(self, *, size: int, etag: str | None) -> None:
        """Note what the server says of the file."""
        self.size, self.etag = size, etag
        self.save()

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes where they belong.

        Raises:
            LlmstackError: the disk is full, or cannot be written.
        """
        try:
            self._file = self._file or _open(self.path)
            self._file.seek(offset)
            left = memoryview(data)
            while left:
                written = self._file.write(left)
                self.spans.add(offset, offset + written)
                offset, left = offset + written, left[written:]
        except OSError as error:
            raise _disk_error(self.path, error) from error
        self._unsaved += len(data)
        if self._unsaved >= SAVE_BYTES:
            self.save()

    def save(self) -> None:
        """Note the progress; where the disk is too full for that, the last note stays.

        One write of whole pages in place: a kill cannot tear it, a disk that was filled since has room for
        it, and it costs microseconds where a rename would cost milliseconds. After a power cut the checksum
        decides.
        """
        note: dict[str, Any] = {
            "size": self.size,
            "etag": self.etag,
            "sha256": self.sha256,
            "done": self.spans.done,
        }
        text = json.dumps(note).encode()
        with contextlib.suppress(OSError):
            self._note_file = self._note_file or _open(self.note)
            self._note_file.seek(0)
            # Never shorter than before, or the end of the last note would follow this one.
            self._note_bytes = max(self._note_bytes, -(-len(text) // PAGE) * PAGE)
            self._note_file.write(text.ljust(self._note_bytes))
        self._unsaved = 0

    def reset(self) -> None:
        """Forget everything that was fetched."""
        self.close()
        for path in (self.note, self.path):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        self.spans, self.size, self.etag = Spans(), self._expected_size, None

    def close(self) -> None:
        """Close both files."""
        for file in (self._file, self._note_file):
            if file is not None:
                file.close()
        self._file = self._note_file = None

    def finish(self, target: Path) -> None:
        """Give the whole file its name.

        Raises:
            LlmstackError: that failed.
        """
        self.close()
        try:
            with self.path.open("r+b") as file:
                os.fsync(file.fileno())
            self.path.replace(target)
            self.note.unlink(missing_ok=True)
        except OSError as error:
            raise _disk_error(target, error) from error


def _open(path: Path) -> FileIO:
    """Open a file to write anywhere in it, keeping what it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    return os.fdopen(descriptor, "r+b", buffering=0)


def _disk_error(path: Path, error: OSError) -> LlmstackError:
    return LlmstackError(
        f"cannot write {path}: {error.strerror or error}",
        hint="free some disk space or check the permissions, then run the same command again:"
        " what was fetched is kept",
    )

"""A file that is somewhere else, read in blocks as it is asked for."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 256 * 1024  # a GGUF header up to its vocabulary is some kilobytes


class RangeFile(io.RawIOBase):
    """A readable, seekable file over a function that returns a range of its bytes."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        """Take `fetch(first, last)`, both inclusive as in an HTTP Range, and the file's size."""
        self._fetch = fetch
        self._size = size
        self._at = 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return where the next read starts."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere; nothing is fetched for it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def readall(self) -> bytes:
        """Return the rest."""
        return self.read(self._size)

    def read(self, size: int | None = -1) -> bytes:
        """Return as many bytes, fewer only at the end of the file."""
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        parts = []
        while self._at < end:
            number, inside = divmod(self._at, BLOCK)
            part = self._block(number)[inside : inside + end - self._at]
            if not part:
                break
            parts.append(part)
            self._at += len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            last = min((number + 1) * BLOCK, self._size) - 1
            self._blocks[number] = self._fetch(number * BLOCK, last)
        return self._blocks[number]

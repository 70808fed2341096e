"""A remote file that is read in blocks, as needed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK_BYTES = 256 * 1024  # a GGUF header up to its vocabulary takes a few kilobytes


class RangeFile(io.RawIOBase):
    """A readable, seekable file over a function that returns a range of its bytes.

    Args:
        fetch: `fetch(first, last)` returns the bytes from `first` to `last`, both inclusive as in an HTTP
            Range.
        size: of the file, in bytes.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._position = 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position, without fetching anything, and return it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def readall(self) -> bytes:
        """Return the rest of the file."""
        return self.read(self._size)

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, fewer only at the end of the file; everything if negative or None."""
        end = self._size if size is None or size < 0 else min(self._position + size, self._size)
        parts = []
        while self._position < end:
            number, offset = divmod(self._position, BLOCK_BYTES)
            part = self._block(number)[offset : offset + end - self._position]
            if not part:
                break
            parts.append(part)
            self._position += len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            last = min((number + 1) * BLOCK_BYTES, self._size) - 1
            self._blocks[number] = self._fetch(number * BLOCK_BYTES, last)
        return self._blocks[number]

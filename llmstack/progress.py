"""The progress of file transfers, as plain values; `console_progress` draws them."""

from __future__ import annotations

from dataclasses import dataclass

STYLES = {"done": "green", "failed": "red", "interrupted": "red"}


@dataclass(frozen=True, slots=True)
class FileProgress:
    """The progress of one file.

    Attributes:
        name: what the file is called in the output.
        state: one word: waiting, fetching, done, failed…
        done: bytes on disk.
        total: size in bytes; None if unknown.
    """

    name: str
    state: str
    done: int
    total: int | None


def format_decimal_bytes(count: float) -> str:
    """Return a number of bytes in decimal units, as disks and providers count: `4.7 GB`, `120.0 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"

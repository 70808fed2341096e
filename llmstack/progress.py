"""What is told of files on their way: as values, without the machinery that draws bars."""

from __future__ import annotations

from dataclasses import dataclass

STYLES = {"done": "green", "failed": "red", "interrupted": "red"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One file: `done` of `total` bytes, and a word for what happens to it."""

    name: str
    state: str
    done: int
    total: int | None


def amount(count: float) -> str:
    """Return bytes in decimal units, as disks and providers count them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"

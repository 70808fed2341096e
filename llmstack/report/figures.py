"""Numbers as people say them."""

from __future__ import annotations

GB = 1024**3
MB = 1024**2
KB = 1024


def duration(seconds: float) -> str:
    """Return a time span as people say it: `42 s`, `3 min`, `5 h`, `2 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Return bytes as people say them: `38 KB`, `3 MB`, `2.5 GB`."""
    if 0 < count < MB:
        return f"{count / KB:.0f} KB"
    return f"{count / GB:.1f} GB" if count >= GB else f"{count / MB:.0f} MB"


def tokens(count: int) -> str:
    """Return a window as people write it: `128k`."""
    return f"{count // 1024}k" if count >= 1024 and count % 1024 == 0 else str(count)  # noqa: PLR2004

"""Format numbers and states for people."""

from __future__ import annotations

from llmstack.units import GB, KB, MB


def format_duration(seconds: float) -> str:
    """Return a duration in its largest unit: `42 s`, `3 min`, `5 h`, `2 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def format_size(count: int) -> str:
    """Return a number of bytes in its largest unit: `38 KB`, `3 MB`, `2.5 GB`."""
    if 0 < count < MB:
        return f"{count / KB:.0f} KB"
    return f"{count / GB:.1f} GB" if count >= GB else f"{count / MB:.0f} MB"


def format_tokens(count: int) -> str:
    """Return a number of tokens: `128k` for multiples of 1024, else all digits."""
    return f"{count // 1024}k" if count >= 1024 and count % 1024 == 0 else str(count)  # noqa: PLR2004


def state_word(state: str) -> str:
    """Return the word that people read for a tier's state; JSON says `resident` for a loaded one."""
    return "loaded" if state == "resident" else state

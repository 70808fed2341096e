"""The prompt caches that were saved, of all projects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.serving.kv.files import CacheEntry, KvFiles, budget_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.config import StackConfig


@dataclass(frozen=True, slots=True)
class PromptCaches:
    """What is kept, and within which bounds.

    Attributes:
        directory: where.
        budget_bytes: what may be kept; `total_bytes` what is.
        saved: one conversation each, the latest first.
    """

    directory: Path
    budget_bytes: int
    total_bytes: int
    saved: list[SavedPrompt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SavedPrompt:
    """One conversation; `used` is seconds since the epoch. What it says is not known, nor asked."""

    tier: str
    model: str
    tokens: int
    size_bytes: int
    used: float
    path: Path


def kept(root: Path, config: StackConfig | None) -> PromptCaches:
    """Return what is kept; the budget is this project's, or the default without one."""
    files = KvFiles(root, budget_bytes(config.settings.kv_cache_gb if config else None, root))
    saved = [_shown(entry) for entry in reversed(files.entries())]
    return PromptCaches(root, files.budget, files.total(), saved)


def clear(root: Path) -> int:
    """Remove all of them; return the bytes that were freed. A running stack goes on, and saves anew."""
    return KvFiles(root, 0).clear()


def _shown(entry: CacheEntry) -> SavedPrompt:
    note = entry.note
    return SavedPrompt(note.tier, note.model, note.tokens, note.size, entry.used, entry.path)

"""List and clear the saved prompt caches, of all projects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.serving.kv.files import CacheEntry, PromptCacheFiles, budget_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.config import StackConfig


@dataclass(frozen=True, slots=True)
class PromptCaches:
    """The saved prompt caches.

    Attributes:
        directory: the directory that holds them.
        budget_bytes: the size they may have; `total_bytes` the size they have.
        saved: one entry for each conversation, the latest first.
    """

    directory: Path
    budget_bytes: int
    total_bytes: int
    saved: list[SavedPrompt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SavedPrompt:
    """The cache of one conversation. Its text is neither known nor read.

    Attributes:
        used: when it was last used, in seconds since the epoch.
    """

    tier: str
    model: str
    tokens: int
    size_bytes: int
    used: float
    path: Path


def list_caches(directory: Path, config: StackConfig | None) -> PromptCaches:
    """Return the saved caches; the budget is the project's, or the default if there is no project."""
    files = PromptCacheFiles(
        directory, budget_bytes(config.settings.kv_cache_gb if config else None, directory)
    )
    saved = [_saved_prompt(entry) for entry in reversed(files.entries())]
    return PromptCaches(directory, files.budget, files.total_bytes(), saved)


def clear_caches(directory: Path) -> int:
    """Remove all saved caches, and return the bytes freed. A running stack continues and saves new ones."""
    return PromptCacheFiles(directory, 0).clear()


def _saved_prompt(entry: CacheEntry) -> SavedPrompt:
    metadata = entry.metadata
    return SavedPrompt(
        metadata.tier, metadata.model, metadata.tokens, metadata.size, entry.last_used, entry.path
    )

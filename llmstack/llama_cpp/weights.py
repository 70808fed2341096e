"""Where a tier's GGUF file is on this disk: a local path, or the standard hub cache that llama.cpp shares."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import GgufModel

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def hub_cache(env: Mapping[str, str]) -> Path:
    """Return the hub's cache directory: `HF_HUB_CACHE`, `HF_HOME`/hub, else `~/.cache/huggingface/hub`."""
    if env.get("HF_HUB_CACHE"):
        return Path(env["HF_HUB_CACHE"]).expanduser()
    if env.get("HF_HOME"):
        return Path(env["HF_HOME"]).expanduser() / "hub"
    root = Path(env["XDG_CACHE_HOME"]).expanduser() if env.get("XDG_CACHE_HOME") else Path.home() / ".cache"
    return root / "huggingface" / "hub"


def find_weights(model: GgufModel, env: Mapping[str, str]) -> Path | None:
    """Return the file to load (the first shard of several), or None where any part is missing."""
    if model.path is not None:
        return _first(model.path)
    if model.repo is None or model.file is None:
        return None
    repository = hub_cache(env) / f"models--{model.repo.replace('/', '--')}"
    for snapshot in _snapshots(repository):
        if found := _first(snapshot / model.file):
            return found
    return None


def _snapshots(repository: Path) -> list[Path]:
    """Return the revisions that the cache holds, the one called `main` first."""
    try:
        snapshots = sorted((repository / "snapshots").iterdir())
    except OSError:
        return []
    try:
        main = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return snapshots
    return sorted(snapshots, key=lambda snapshot: snapshot.name != main)


def shards(path: Path) -> list[Path]:
    """Return every file of a model that starts at `path`: itself, or all `-00001-of-0000N` parts."""
    match = _SHARD.search(path.name)
    if match is None or int(match.group(2)) == 0:
        return [path]
    stem, total = path.name[: match.start()], match.group(2)
    return [path.with_name(f"{stem}-{number:05d}-of-{total}.gguf") for number in range(1, int(total) + 1)]


def _first(path: Path) -> Path | None:
    """Return the file that llama.cpp is given for a model, its first shard, where all of it is there."""
    try:
        parts = shards(path)
        return parts[0] if all(part.is_file() for part in parts) else None
    except OSError:
        return None  # a directory that may not be entered, a name that is too long

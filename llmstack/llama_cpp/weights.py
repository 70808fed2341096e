"""Find a tier's GGUF file on disk: at a local path, or in the hub cache, which llama.cpp uses as well."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import GgufModel

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_MAX_SHARDS = 1000  # of a model; in parts of 2 GB, which are small ones, they would hold 2 TB


def hub_cache(env: Mapping[str, str]) -> Path:
    """Return the hub's cache directory: `$HF_HUB_CACHE`, `$HF_HOME/hub`, else `~/.cache/huggingface/hub`."""
    if env.get("HF_HUB_CACHE"):
        return Path(env["HF_HUB_CACHE"]).expanduser()
    if env.get("HF_HOME"):
        return Path(env["HF_HOME"]).expanduser() / "hub"
    root = Path(env["XDG_CACHE_HOME"]).expanduser() if env.get("XDG_CACHE_HOME") else Path.home() / ".cache"
    return root / "huggingface" / "hub"


def find_weights(model: GgufModel, env: Mapping[str, str]) -> Path | None:
    """Return the file to load, which is the first shard of several; None if any part is missing."""
    if model.path is not None:
        return _complete_first_shard(model.path)
    if model.repo is None or model.file is None:
        return None
    repository = hub_cache(env) / f"models--{model.repo.replace('/', '--')}"
    for snapshot in _snapshots(repository):
        if path := _complete_first_shard(snapshot / model.file):
            return path
    return None


def _snapshots(repository: Path) -> list[Path]:
    """Return the directories of the cached revisions, with `main` first."""
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
    """Return every file of the model that `path` belongs to: itself, or all its `-00001-of-0000N` parts.

    A name with more parts than any model has is taken as that of a single file.
    """
    match = _SHARD.search(path.name)
    if match is None or not 0 < int(match.group(2)) <= _MAX_SHARDS:
        return [path]
    stem, total = path.name[: match.start()], match.group(2)
    return [path.with_name(f"{stem}-{number:05d}-of-{total}.gguf") for number in range(1, int(total) + 1)]


def _complete_first_shard(path: Path) -> Path | None:
    """Return the first file of a model, the one that llama.cpp loads; None unless all its files exist."""
    try:
        parts = shards(path)
        return parts[0] if all(part.is_file() for part in parts) else None
    except OSError:
        return None  # for example a directory without permission, or a name that is too long

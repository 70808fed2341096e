"""The tiny models of profile `demo`, built on the spot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.llama_cpp.tiny import write_echo

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.config import StackConfig


def demo_models_of(config: StackConfig, directory: Path) -> dict[str, Path]:
    """Return the tiers that are served by a demo model, with its file."""
    paths = {name: getattr(tier.model, "path", None) for name, tier in config.tiers.items()}
    return {name: path for name, path in paths.items() if path is not None and path.parent == directory}


def build_demo_models(models: dict[str, Path], *, again: bool = False) -> list[Path]:
    """Build the models that are missing, or all of them; each introduces itself with its tier's name."""
    built = [(name, path) for name, path in models.items() if again or not path.is_file()]
    for name, path in built:
        write_echo(path, speaker=name)
    return [path for _, path in built]

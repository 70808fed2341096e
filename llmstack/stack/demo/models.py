"""The tiny models of profile `demo`, which are built on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.llama_cpp.tiny import write_echo

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.config import StackConfig


def find_demo_models(config: StackConfig, directory: Path) -> dict[str, Path]:
    """Return the files of the tiers whose model is in the directory of demo models."""
    paths = {name: getattr(tier.model, "path", None) for name, tier in config.tiers.items()}
    return {name: path for name, path in paths.items() if path is not None and path.parent == directory}


def build_demo_models(models: dict[str, Path], *, again: bool = False) -> list[Path]:
    """Build the missing models, or all of them if `again`, and return their paths.

    Each model begins its answers with the name of its tier.
    """
    to_build = [(name, path) for name, path in models.items() if again or not path.is_file()]
    for name, path in to_build:
        write_echo(path, speaker=name)
    return [path for _, path in to_build]

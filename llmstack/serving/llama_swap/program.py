"""Which swapper is used: llama-swap where its binary is installed, else the built-in pool."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "llama-swap.exe" if os.name == "nt" else "llama-swap"


def llama_swap_binary(setting: Literal["auto", "builtin", "llama-swap"], bin_dir: Path) -> Path | None:
    """Return the llama-swap to run, or None for the built-in pool.

    Args:
        setting: `swapper` in models.ini.
        bin_dir: where `install-llama-swap` puts it.

    Raises:
        LlmstackError: it is asked for and not there.
    """
    if setting == "builtin":
        return None
    binary = bin_dir / NAME
    if binary.is_file() and os.access(binary, os.X_OK):
        return binary.absolute()
    if setting == "llama-swap":
        raise LlmstackError(
            f"swapper = llama-swap, and there is no {binary}",
            hint="fetch it with `llmstack install-llama-swap`, or set `swapper = builtin` in models.ini:"
            " the built-in pool needs no binary",
        )
    return None

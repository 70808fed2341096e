"""The llama-swap program: whether it is used, and the address that it listens on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "llama-swap.exe" if os.name == "nt" else "llama-swap"
HOST = "127.0.0.1"


def llama_swap_binary(setting: Literal["auto", "builtin", "llama-swap"], bin_dir: Path) -> Path | None:
    """Return the llama-swap to run, or None for the built-in pool.

    Args:
        setting: `swapper` in models.ini. `auto` means llama-swap if it is installed.
        bin_dir: the directory that `install-llama-swap` installs it in.

    Raises:
        LlmstackError: the setting is `llama-swap`, and it is not installed.
    """
    if setting == "builtin":
        return None
    binary = bin_dir / NAME
    if binary.is_file() and os.access(binary, os.X_OK):
        return binary.absolute()
    if setting == "llama-swap":
        raise LlmstackError(
            f"swapper = llama-swap, but there is no program {binary}",
            hint="install it with `llmstack install-llama-swap`, or set `swapper = builtin` in models.ini:"
            " the built-in pool needs no binary",
        )
    return None

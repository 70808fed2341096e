"""An environment in which tests neither read nor write the user's files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REMOVED_VARIABLES = re.compile(
    r"(LLMSTACK|LLAMA|HF|XDG)_.*|LITELLM_BIN|LOG_LEVEL|.*_(API_KEY|AUTH_TOKEN|BASE_URL)"
)


def isolated_env(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with another home, and without the variables that llmstack reads."""
    remaining = {name: value for name, value in env.items() if not REMOVED_VARIABLES.fullmatch(name)}
    xdg = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    return remaining | {"HOME": str(home), "USERPROFILE": str(home)} | xdg

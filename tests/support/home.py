"""An environment in which nothing of the user's own is read or written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCRUBBED = re.compile(r"(LLMSTACK|LLAMA|HF|XDG)_.*|LITELLM_BIN|LOG_LEVEL|.*_(API_KEY|AUTH_TOKEN|BASE_URL)")


def at_home(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with this home, and without the variables that llmstack looks at."""
    kept = {name: value for name, value in env.items() if not SCRUBBED.fullmatch(name)}
    xdg = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    return kept | {"HOME": str(home), "USERPROFILE": str(home)} | xdg

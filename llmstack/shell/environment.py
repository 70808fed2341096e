"""The environment of an activated terminal. The shell hook imports this: standard library only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.trust.fingerprint import STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.channel import Channel

EXPORTED_NAMES = (
    "OPENCODE_CONFIG",
    "LLMSTACK_WORK_DIR",
    "LLMSTACK_CHANNEL",
    "LLMSTACK_ACTIVE",
    "LLMSTACK_ROOT",
    "LLMSTACK_REMOTE_URL",
)
# Prefix of the variables that hold the previous values, if there were any. They are exported as well, so that
# a child shell that leaves the project can restore the values from before its parent was activated.
SAVED_PREFIX = "LLMSTACK_SAVED_"


def exported_variables(work_dir: Path, channel: Channel) -> dict[str, str]:
    """Return the variables that a terminal in this project exports."""
    exports = {
        "OPENCODE_CONFIG": str(work_dir / STATE_DIR / "opencode.json"),
        "LLMSTACK_WORK_DIR": str(work_dir),
        "LLMSTACK_CHANNEL": channel.kind,
        "LLMSTACK_ACTIVE": "1",
        "LLMSTACK_ROOT": str(Path(__file__).resolve().parents[1]),
    }
    if channel.url:
        exports["LLMSTACK_REMOTE_URL"] = channel.url
    return exports


def activate_env(env: Mapping[str, str], exports: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an activated terminal, which includes the previous values."""
    before = deactivate_env(env)
    saved = {f"{SAVED_PREFIX}{name}": before[name] for name in EXPORTED_NAMES if name in before}
    others = {name: value for name, value in before.items() if name not in EXPORTED_NAMES}
    return others | saved | dict(exports)


def deactivate_env(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment from before the terminal was activated; a plain copy if it is not active."""
    if "LLMSTACK_ACTIVE" not in env:
        return dict(env)
    others = {
        name: value
        for name, value in env.items()
        if name not in EXPORTED_NAMES and not name.startswith(SAVED_PREFIX)
    }
    saved = {name: env[f"{SAVED_PREFIX}{name}"] for name in EXPORTED_NAMES if f"{SAVED_PREFIX}{name}" in env}
    return others | saved

"""What an active terminal exports. Standard library alone: the shell hook needs it at a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.trust.fingerprint import STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.channel import Channel

NAMES = (
    "OPENCODE_CONFIG",
    "LLMSTACK_WORK_DIR",
    "LLMSTACK_CHANNEL",
    "LLMSTACK_ACTIVE",
    "LLMSTACK_ROOT",
    "LLMSTACK_REMOTE_URL",
)
# What such a variable held before stands in one with this prefix; a variable that was unset has none. They
# are exported too: a child shell that leaves the project must be able to restore what its parent found.
SAVED = "LLMSTACK_SAVED_"


def variables(work_dir: Path, channel: Channel) -> dict[str, str]:
    """Return what a terminal in this project exports."""
    found = {
        "OPENCODE_CONFIG": str(work_dir / STATE_DIR / "opencode.json"),
        "LLMSTACK_WORK_DIR": str(work_dir),
        "LLMSTACK_CHANNEL": channel.kind,
        "LLMSTACK_ACTIVE": "1",
        "LLMSTACK_ROOT": str(Path(__file__).resolve().parents[1]),
    }
    return found | ({"LLMSTACK_REMOTE_URL": channel.url} if channel.url else {})


def activated(env: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a terminal that is active, with what it had before kept beside it."""
    before = deactivated(env)
    saved = {f"{SAVED}{name}": before[name] for name in NAMES if name in before}
    return {name: value for name, value in before.items() if name not in NAMES} | saved | dict(values)


def deactivated(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment as it was before the terminal became active; the same where it is not."""
    if "LLMSTACK_ACTIVE" not in env:
        return dict(env)
    saved = {name: env[f"{SAVED}{name}"] for name in NAMES if f"{SAVED}{name}" in env}
    return {
        name: value for name, value in env.items() if name not in NAMES and not name.startswith(SAVED)
    } | saved

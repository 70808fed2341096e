"""The stack as a client of it is told, without a stack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmstack.clients.base import Wiring

if TYPE_CHECKING:
    from collections.abc import Mapping


def wiring(env: Mapping[str, str], repo: Path, url: str, **more: Any) -> Wiring:
    about: dict[str, Any] = {
        "url": url,
        "key": None,
        "key_env": "LLMSTACK_API_KEY",
        "context": 65_536,
        "output": 4096,
        "fast": "code-fast",
        "agent": "code-smart",
        "ultra": "code-ultra",
        "work_dir": repo,
        "cwd": repo,
        "env": env,
        "opencode_json": "{ }",
        "opencode_path": Path("/state/opencode.json"),
    }
    return Wiring(**about | more)

"""A `StackAccess` for tests that start no stack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmstack.clients.base import StackAccess

if TYPE_CHECKING:
    from collections.abc import Mapping


def stack_access(env: Mapping[str, str], repo: Path, url: str, **overrides: Any) -> StackAccess:
    fields: dict[str, Any] = {
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
    return StackAccess(**fields | overrides)

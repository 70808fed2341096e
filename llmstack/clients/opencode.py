"""opencode under `run`: pinned to this stack, whatever the repository it works in says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def find(env: Mapping[str, str]) -> Path:
    """Return the opencode executable on this environment's PATH.

    Raises:
        LlmstackError: there is none.
    """
    # A relative entry (`.`, `node_modules/.bin`) would find a program of the repository.
    places = [place for place in env.get("PATH", "").split(os.pathsep) if Path(place).is_absolute()]
    found = shutil.which("opencode", path=os.pathsep.join(places))
    if found is None or not Path(found).is_absolute():
        raise LlmstackError("opencode is not on PATH", hint="install it: npm install -g opencode-ai")
    return Path(found)


def child_env(env: Mapping[str, str], *, config_json: str, config_path: Path) -> dict[str, str]:
    """Return the environment that pins opencode to this stack.

    opencode 1.18.33 reads the user's own configuration, `OPENCODE_CONFIG`, the repository's files,
    `OPENCODE_CONFIG_CONTENT`; a later one wins key by key, but MCP servers and plugins add up. So ours goes
    last and the repository's are switched off; what that switch misses, `repository_plugins` finds.

    Args:
        env: the environment of the command.
        config_json: text of our `opencode.json`.
        config_path: where that text is on disk.
    """
    child = dict(env)
    for name in ("OPENCODE_CONFIG_DIR", "OPENCODE_TUI_CONFIG"):
        # The user's own when absolute; a relative one names files of the repository, plugins included.
        if not Path(child.get(name, "")).is_absolute():
            child.pop(name, None)
    # opencode sends loopback requests to HTTP_PROXY as well, unless told not to.
    no_proxy = _no_proxy(env)
    return child | {
        "OPENCODE_CONFIG": str(config_path),
        "OPENCODE_CONFIG_CONTENT": config_json,
        "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def _no_proxy(env: Mapping[str, str]) -> str:
    listed = f"{env.get('NO_PROXY', '')},{env.get('no_proxy', '')}".split(",")
    return ",".join(dict.fromkeys(host for entry in (*listed, *_LOOPBACK) if (host := entry.strip())))


def repository_plugins(directory: Path, home: Path) -> list[Path]:
    """Return the files through which opencode would run code of a repository, whatever it is told.

    Measured with opencode 1.18.33: a session imports the plugins of `.opencode/`, and those `opencode.json`
    names, here and in the directories above, also with `OPENCODE_DISABLE_PROJECT_CONFIG` and `OPENCODE_PURE`.
    Nothing switches that off, so the caller must refuse. `home` and what is above it are the user's own.
    """
    found: list[Path] = []
    directory = directory.resolve()
    own = (home.resolve(), *home.resolve().parents)
    for place in (directory, *directory.parents):
        if place in own:
            break
        found += [*_configured(place), *_configured(place / ".opencode"), *_modules(place / ".opencode")]
    return found


def refuse_repository_plugins(directory: Path, home: Path) -> None:
    """Raise where opencode would run code of the repository.

    Raises:
        LlmstackError: names the files.
    """
    if found := repository_plugins(directory, home):
        names = ", ".join(map(str, found))
        raise LlmstackError(
            f"opencode would run plugins of this repository: {names}",
            hint="read them; to go on, move them away, or start `opencode` yourself without `llmstack run`",
        )


def _configured(directory: Path) -> Iterator[Path]:
    """Configuration files here that may name plugins."""
    for name in ("opencode.json", "opencode.jsonc"):
        path = directory / name
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # It may hold comments and trailing commas, so it is searched, not parsed; escapes spell keys too.
        if "plugin" in text or "\\u" in text:
            yield path


def _modules(directory: Path) -> Iterator[Path]:
    for name in ("plugin", "plugins"):
        try:
            entries = sorted((directory / name).iterdir())
        except OSError:
            continue
        yield from (entry for entry in entries if entry.name.lower().endswith((".ts", ".js")))

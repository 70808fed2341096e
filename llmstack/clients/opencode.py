"""opencode under `run`: pinned to this stack, whatever the repository it works in says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.clients.base import Launch, without_proxy, without_relative
from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmstack.clients.base import Wiring


class Opencode:
    """opencode.

    1.18.33 reads the user's own configuration, `OPENCODE_CONFIG`, the repository's files,
    `OPENCODE_CONFIG_CONTENT`; a later one wins key by key, but MCP servers and plugins add up. So ours goes
    last and the repository's are switched off; what that switch misses, `repository_plugins` finds.
    """

    name = "opencode"
    package = "opencode-ai"

    def refuse(self, cwd: Path, home: Path) -> None:
        """Raise where it would run code of the repository.

        Raises:
            LlmstackError: names the files.
        """
        refuse_repository_plugins(cwd, home)

    def launch(self, wiring: Wiring, scratch: Path) -> Launch:  # noqa: ARG002 - of the Protocol: no file is needed
        """Return it with its configuration in its environment."""
        # The directories are the user's own when absolute; a relative one names files of the repository.
        inherited = without_relative(wiring.env, "OPENCODE_CONFIG_DIR", "OPENCODE_TUI_CONFIG")
        own = {
            "OPENCODE_CONFIG": str(wiring.opencode_path),
            "OPENCODE_CONFIG_CONTENT": wiring.opencode_json,
            "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
        }
        return Launch((), inherited | own | without_proxy(wiring.env))


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

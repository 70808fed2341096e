"""opencode under `llmstack run`: uses this stack, whatever the repository it works in configures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.clients.base import Launch, no_proxy_variables, without_relative_paths
from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmstack.clients.base import StackAccess


class Opencode:
    """opencode.

    Version 1.18.33 reads, in this order, the user's configuration, `OPENCODE_CONFIG`, the repository's files
    and `OPENCODE_CONFIG_CONTENT`. A later source overrides single keys, but MCP servers and plugins add up.
    So the stack's configuration goes last and the repository's files are disabled; `find_repository_plugins`
    finds what disabling them does not cover.
    """

    name = "opencode"
    package = "opencode-ai"

    def check_repository(self, cwd: Path, home: Path) -> None:
        """Check that opencode will not run plugins of the repository.

        Raises:
            LlmstackError: it would; the message names the files.
        """
        reject_repository_plugins(cwd, home)

    def launch(self, access: StackAccess, scratch: Path) -> Launch:  # noqa: ARG002 - the protocol's signature; no file is needed
        """Return how to start it, its configuration in environment variables."""
        # An absolute path is the user's own; a relative one would name files of the repository.
        inherited = without_relative_paths(access.env, "OPENCODE_CONFIG_DIR", "OPENCODE_TUI_CONFIG")
        variables = {
            "OPENCODE_CONFIG": str(access.opencode_path),
            "OPENCODE_CONFIG_CONTENT": access.opencode_json,
            "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
        }
        return Launch((), inherited | variables | no_proxy_variables(access.env))


def find_repository_plugins(directory: Path, home: Path) -> list[Path]:
    """Return the files through which opencode would run code of a repository.

    Measured with opencode 1.18.33: a session imports the plugins in `.opencode/` and those that
    `opencode.json` names, in the directory and its parents. `OPENCODE_DISABLE_PROJECT_CONFIG` and
    `OPENCODE_PURE` do not prevent it, so the caller must refuse to start opencode.

    Args:
        directory: the directory opencode runs in.
        home: the user's home; it and its parents are not searched, as their files are the user's own.
    """
    files: list[Path] = []
    directory = directory.resolve()
    own = (home.resolve(), *home.resolve().parents)
    for path in (directory, *directory.parents):
        if path in own:
            break
        dot_opencode = path / ".opencode"
        files += [*_config_files(path), *_config_files(dot_opencode), *_plugin_modules(dot_opencode)]
    return files


def reject_repository_plugins(directory: Path, home: Path) -> None:
    """Raise an error if opencode would run plugins of the repository.

    Raises:
        LlmstackError: it would; the message names the files.
    """
    if files := find_repository_plugins(directory, home):
        names = ", ".join(map(str, files))
        raise LlmstackError(
            f"opencode would run plugins of this repository: {names}",
            hint="read them; to go on, move them away, or start `opencode` yourself without `llmstack run`",
        )


def _config_files(directory: Path) -> Iterator[Path]:
    """Yield the configuration files in a directory that may name plugins."""
    for name in ("opencode.json", "opencode.jsonc"):
        path = directory / name
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # JSON with comments and trailing commas: search the text instead of parsing it. Keys may be escaped.
        if "plugin" in text or "\\u" in text:
            yield path


def _plugin_modules(directory: Path) -> Iterator[Path]:
    """Yield the plugin modules in a `.opencode` directory."""
    for name in ("plugin", "plugins"):
        try:
            entries = sorted((directory / name).iterdir())
        except OSError:
            continue
        yield from (entry for entry in entries if entry.name.lower().endswith((".ts", ".js")))

"""The activation status of a project: active with what to export, or inactive with the reason.

The shell hook assigns these values and never evaluates them. Standard library only: this runs at a prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmstack.channel import CURRENT, read_marker
from llmstack.errors import LlmstackError
from llmstack.shell.environment import exported_variables
from llmstack.trust import store as trust_store
from llmstack.trust.fingerprint import STATE_DIR
from llmstack.trust.plain_files import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.channel import Channel

# xterm's 256 colours: SteelBlue, DarkOrange, MediumPurple
COLORS = {"current": "67", "next": "208", "external": "104"}
MARKER_FILES = ("default-channel", "active-channel")


class HookProject(NamedTuple):
    """The paths of a project that `trust` checks; has none of the imports of paths.py."""

    work_dir: Path
    models_ini: Path


class ActivationStatus(NamedTuple):
    """What the hook needs to know about a project.

    Attributes:
        active: whether to activate the terminal.
        message: one line for the user; empty if there is nothing to report.
        label: the prefix of the prompt, without control characters.
        color: its number among xterm's 256 colours; empty for no colour.
        markers: the first line of each of `MARKER_FILES`, so that the hook notices a change.
        exports: variables to export, as pairs of name and value.
    """

    active: bool
    message: str = ""
    label: str = ""
    color: str = ""
    markers: tuple[str, ...] = ("", "")
    exports: tuple[tuple[str, str], ...] = ()

    def fields(self) -> list[str]:
        """Return everything as a flat list, in the order that the hooks read it."""
        exports = [text for pair in self.exports for text in pair]
        return ["on" if self.active else "off", self.message, self.label, self.color, *self.markers, *exports]


def read_status(project: HookProject, trust_file: Path, env: Mapping[str, str]) -> ActivationStatus:
    """Return the activation status of a project; an expected error becomes its message."""
    state = project.work_dir / STATE_DIR
    try:
        trust = trust_store.check(project, trust_file)
        if trust.verdict is not trust_store.Verdict.TRUSTED:
            message = _untrusted_message(_display_path(project, env), trust)
            return ActivationStatus(active=False, message=message)
        markers = tuple(_first_line(state / name) for name in MARKER_FILES)
        if not (state / "opencode.json").is_file():
            message = f"{_display_path(project, env)} is not installed: run `llmstack install` there"
            return ActivationStatus(active=False, message=message)
        channel = read_marker(state / "active-channel") or read_marker(state / "default-channel") or CURRENT
    except LlmstackError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return ActivationStatus(active=False, message=escape_unprintable(f"{error.message}{hint}"))
    has_color = not env.get("NO_COLOR") and env.get("TERM") != "dumb"
    return ActivationStatus(
        active=True,
        label=prompt_label(project.work_dir, channel),
        color=COLORS[channel.kind] if has_color else "",
        markers=markers,
        exports=tuple(exported_variables(project.work_dir, channel).items()),
    )


def prompt_label(work_dir: Path, channel: Channel) -> str:
    """Return the prefix of the prompt: the project's name, and its channel unless that is `current`."""
    suffix = escape_unprintable(channel.url or ("" if channel == CURRENT else channel.kind))
    name = escape_unprintable(work_dir.name or str(work_dir))
    return f"[llmstack:{name} {suffix}]" if suffix else f"[llmstack:{name}]"


def _untrusted_message(name: str, trust: trust_store.Trust) -> str:
    next_step = "see what it would run: `llmstack trust`"
    if trust.verdict is trust_store.Verdict.UNKNOWN:
        return f"{name} is not trusted; {next_step}"
    changed = ", ".join(escape_unprintable(file) for file in trust.changed)
    return f"{name} is off, {changed} changed since it was trusted; {next_step}"


def _display_path(project: HookProject, env: Mapping[str, str]) -> str:
    """Return the project's directory with `~` for the home directory, so that messages fit on one line."""
    home, path = env.get("HOME", "").rstrip("/"), str(project.work_dir)
    return escape_unprintable(f"~{path.removeprefix(home)}" if home and path.startswith(f"{home}/") else path)


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").partition("\n")[0]
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise LlmstackError(f"cannot read {path}: {error.strerror or error}") from error

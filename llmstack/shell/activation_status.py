"""Where a project stands, for the prompt: active with what to export, or not and why.

The answer is data. The hook assigns it and never evaluates it. Imports the standard library alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmstack.channel import CURRENT, read_marker
from llmstack.errors import LlmstackError
from llmstack.shell.environment import variables
from llmstack.trust import store as trust_store
from llmstack.trust.fingerprint import STATE_DIR, printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.channel import Channel

# xterm's 256 colours: SteelBlue, DarkOrange, MediumPurple
COLORS = {"current": "67", "next": "208", "external": "104"}
MARKERS = ("default-channel", "active-channel")


class Place(NamedTuple):
    """A project as `trust` looks at it, made without what paths.py imports."""

    work_dir: Path
    models_ini: Path


class ActivationStatus(NamedTuple):
    """What the hook is told.

    Attributes:
        active: whether the terminal is to be wired up.
        message: one line for the user, empty where there is nothing to say.
        label: what the prompt shows, printable; `color` its number among xterm's 256, or empty.
        markers: the first lines of the marker files as they were read, for the hook to notice a change.
        exports: variables to export, by name and value.
    """

    active: bool
    message: str = ""
    label: str = ""
    color: str = ""
    markers: tuple[str, ...] = ("", "")
    exports: tuple[tuple[str, str], ...] = ()

    def fields(self) -> list[str]:
        """Return everything in a flat order: what the hooks for bash, zsh and fish read."""
        flat = [part for pair in self.exports for part in pair]
        return ["on" if self.active else "off", self.message, self.label, self.color, *self.markers, *flat]


def standing(place: Place, store: Path, env: Mapping[str, str]) -> ActivationStatus:
    """Return where a project stands; what is wrong with it is a message, never an exception."""
    state = place.work_dir / STATE_DIR
    try:
        found = trust_store.check(place, store)
        if found.verdict is not trust_store.Verdict.TRUSTED:
            return ActivationStatus(active=False, message=_untrusted(_shown(place, env), found))
        markers = tuple(_first_line(state / name) for name in MARKERS)
        if not (state / "opencode.json").is_file():
            message = f"{_shown(place, env)} is not installed: run `llmstack install` there"
            return ActivationStatus(active=False, message=message)
        channel = read_marker(state / "active-channel") or read_marker(state / "default-channel") or CURRENT
    except LlmstackError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return ActivationStatus(active=False, message=printable(f"{error.message}{hint}"))
    plain = bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"
    return ActivationStatus(
        active=True,
        label=label(place.work_dir, channel),
        color="" if plain else COLORS[channel.kind],
        markers=markers,
        exports=tuple(variables(place.work_dir, channel).items()),
    )


def label(work_dir: Path, channel: Channel) -> str:
    """Return the prompt's prefix: the project, and beside it what is not channel `current`."""
    beside = channel.url or ("" if channel == CURRENT else channel.kind)
    name = printable(work_dir.name or str(work_dir))
    return f"[llmstack:{name} {beside}]" if beside else f"[llmstack:{name}]"


def _untrusted(name: str, found: trust_store.Trust) -> str:
    how = "see what it would run: `llmstack trust`"
    if found.verdict is trust_store.Verdict.UNKNOWN:
        return f"{name} is not trusted; {how}"
    changed = ", ".join(printable(each) for each in found.changed)
    return f"{name} is off, {changed} changed since it was trusted; {how}"


def _shown(place: Place, env: Mapping[str, str]) -> str:
    """Return the project's directory as prompts show it, so that a message fits on one line."""
    home, path = env.get("HOME", "").rstrip("/"), str(place.work_dir)
    return printable(f"~{path.removeprefix(home)}" if home and path.startswith(f"{home}/") else path)


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").partition("\n")[0]
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise LlmstackError(f"cannot read {path}: {error.strerror or error}") from error

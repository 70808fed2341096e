"""The profiles that come with the package: what `install` writes as the first models.ini."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmstack.config.values import nearest
from llmstack.errors import LlmstackError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

_MODELS_DIR = "{demo_models}"
_OPENS = "; >>> hosted"
_CLOSES = "; <<< hosted"
# In the profiles `;key = value` is a line to switch on, and `; words` is for people.
_SWITCHED_OFF = re.compile(r"^;(?=\S)")


# Memory that models must be allowed, in GB, for a profile to fit: the largest first. The test computes that
# each tier fits in it, and the fast and the agent tier together. They are a little less than what machines
# of that size have left: a Mac gives its GPU two thirds of 8, 16 or 32 GB, three quarters of 64; a 24 GB
# card has 21.6 GB to give; a computer "with 64 GB" has 62.
PROFILE_MEMORY_GB = {"default": 57.0, "64gb": 46.5, "32gb": 21.3, "16gb": 10.6, "8gb": 5.3}
SMALLEST_PROFILE = "8gb"


def fitting_profile(budget_gb: float) -> str | None:
    """Return the largest profile that so much memory for models holds, None where it holds none."""
    return next((name for name, least in PROFILE_MEMORY_GB.items() if budget_gb >= least), None)


def profile_names() -> list[str]:
    """Return the names of the bundled profiles."""
    from importlib import resources  # noqa: PLC0415 - a project has its own models.ini already

    files = resources.files("llmstack.config").joinpath("profiles").iterdir()
    return sorted(file.name.removesuffix(".ini") for file in files if file.name.endswith(".ini"))


def profile_text(name: str, *, demo_models: Path) -> str:
    """Return the text of a bundled profile.

    Args:
        name: one of `profile_names()`.
        demo_models: absolute directory of the tiny models that profile `demo` serves.

    Raises:
        UsageError: there is no such profile.
        LlmstackError: the directory's name cannot be written in an INI file.
    """
    known = profile_names()
    if name not in known:
        near = nearest(name, known)
        raise UsageError(
            f"no profile called `{name}`; there are: {', '.join(known)}",
            hint=f"did you mean `{near[0]}`?" if near else None,
        )
    from importlib import resources  # noqa: PLC0415 - as above

    text = resources.files("llmstack.config").joinpath("profiles", f"{name}.ini").read_text(encoding="utf-8")
    directory = demo_models.as_posix()
    if _MODELS_DIR in text and re.search(r"\s;|[\r\n]", directory):
        raise LlmstackError(
            f"models.ini cannot name the directory `{directory}`: ` ;` starts a comment there",
            hint="set XDG_DATA_HOME to a directory without one",
        )
    return text.replace(_MODELS_DIR, directory)


def enable_hosted(text: str) -> str:
    """Return a profile's text with the tier between its `hosted` markers switched on.

    Everything else stays as it is, and a tier that is on already stays on.

    Raises:
        LlmstackError: the text has no such markers.
    """
    lines = text.split("\n")
    opens = next((number for number, line in enumerate(lines) if line.startswith(_OPENS)), len(lines))
    closes = next((number for number, line in enumerate(lines) if line.startswith(_CLOSES)), -1)
    if closes < opens:
        raise LlmstackError(
            f"models.ini has no lines between `{_OPENS}` and `{_CLOSES}` to switch on",
            hint="add a tier with `role = ultra` and `model = <provider>/<id>` yourself",
        )
    lines[opens:closes] = [_SWITCHED_OFF.sub("", line) for line in lines[opens:closes]]
    return "\n".join(lines)

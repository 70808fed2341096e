"""The bundled profiles: texts that `install` writes as the first models.ini of a project."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmstack.config.values import nearest
from llmstack.errors import LlmstackError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

_MODELS_DIR = "{demo_models}"
_HOSTED_BEGIN = "; >>> hosted"
_HOSTED_END = "; <<< hosted"
# In the profiles, `;key = value` is a setting that is switched off, and `; words` is a comment.
_SWITCHED_OFF = re.compile(r"^;(?=\S)")


# Memory in GB that models must be able to use for a profile to fit, largest first. A test computes that each
# tier fits into it, and that the fast and the agent tier fit together. The values are slightly below what
# machines of that size offer: a Mac gives its GPU two thirds of 8, 16 or 32 GB and three quarters of 64 GB; a
# 24 GB card offers 21.6 GB; a computer "with 64 GB" has 62 GB.
PROFILE_MEMORY_GB = {"default": 57.0, "64gb": 46.5, "32gb": 21.3, "16gb": 10.6, "8gb": 5.3}
SMALLEST_PROFILE = "8gb"


def fitting_profile(budget_gb: float) -> str | None:
    """Return the largest profile that fits into this much memory for models; None if none does."""
    return next((name for name, needed_gb in PROFILE_MEMORY_GB.items() if budget_gb >= needed_gb), None)


def profile_names() -> list[str]:
    """Return the names of the bundled profiles."""
    from importlib import resources  # noqa: PLC0415 - seldom needed: most projects have a models.ini

    files = resources.files("llmstack.config").joinpath("profiles").iterdir()
    return sorted(file.name.removesuffix(".ini") for file in files if file.name.endswith(".ini"))


def profile_text(name: str, *, demo_models: Path) -> str:
    """Return the text of a bundled profile.

    Args:
        name: one of `profile_names()`.
        demo_models: absolute path of the directory with the tiny models of the profile `demo`.

    Raises:
        UsageError: there is no such profile.
        LlmstackError: the profile names the directory, and its path cannot be written in an INI file.
    """
    names = profile_names()
    if name not in names:
        near = nearest(name, names)
        raise UsageError(
            f"no profile called `{name}`; there are: {', '.join(names)}",
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

    Nothing else is changed; if the tier is on already, the text is returned as it is.

    Raises:
        LlmstackError: the text has no such markers.
    """
    lines = text.split("\n")
    begin = next((index for index, line in enumerate(lines) if line.startswith(_HOSTED_BEGIN)), len(lines))
    end = next((index for index, line in enumerate(lines) if line.startswith(_HOSTED_END)), -1)
    if end < begin:
        raise LlmstackError(
            f"models.ini has no lines between `{_HOSTED_BEGIN}` and `{_HOSTED_END}` to switch on",
            hint="add a tier with `role = ultra` and `model = <provider>/<id>` yourself",
        )
    lines[begin:end] = [_SWITCHED_OFF.sub("", line) for line in lines[begin:end]]
    return "\n".join(lines)

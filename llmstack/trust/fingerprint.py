"""Read and digest the files of a project that can run a program or redirect traffic.

The shell hook imports this at a prompt, so it imports only the standard library (and llmstack.errors).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llmstack.errors import LlmstackError
from llmstack.trust.models_ini import security_content
from llmstack.trust.plain_files import escape_unprintable, read_plain_file, resolve_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STATE_DIR = ".llmstack"  # same as in paths.py, whose imports are too slow for a prompt
MODELS_INI, DEFAULT_CHANNEL, ACTIVE_CHANNEL = "models.ini", "default-channel", "active-channel"
LITELLM_CONFIG, OPENCODE_JSON = "litellm_config.yaml", "opencode.json"
WHOLE_FILES = (DEFAULT_CHANNEL, OPENCODE_JSON, LITELLM_CONFIG)

# What LiteLLM and the Python interpreter that runs it load by name, in any case: modules in source, as
# byte code and as native libraries, what configures their import, and configuration that others include.
LOADABLE_SUFFIXES = frozenset(
    {".py", ".pyc", ".pyd", ".pyo", ".pth", ".so", ".dll", ".dylib", ".yaml", ".yml"}
)
MAX_LOADABLE_FILES = 2000  # a callback has one; a virtual environment in there has some ten thousand
MAX_TOTAL_BYTES = 32 * 1024 * 1024  # all are read at a prompt, and held in memory


class ProjectPaths(Protocol):
    """What this package needs to know of a project, e.g. a `paths.Project`."""

    @property
    def work_dir(self) -> Path:
        """The directory that contains `.llmstack/`."""

    @property
    def models_ini(self) -> Path:
        """`.llmstack/models.ini`, or the file that `LLMSTACK_MODELS_INI` names."""


class ProjectFiles(NamedTuple):
    """The files of a project that can run a program or redirect traffic, read once.

    Attributes:
        contents: bytes by name; the name is the path below `.llmstack/`, and for a models.ini that
            `LLMSTACK_MODELS_INI` names its absolute path.
        models_ini_name: the name of the models.ini in use.
    """

    contents: Mapping[str, bytes]
    models_ini_name: str

    @property
    def models_ini(self) -> bytes | None:
        """The content of the models.ini in use; None if it is missing."""
        return self.contents.get(self.models_ini_name)

    def digests(self) -> dict[str, str]:
        """Return a SHA-256 digest by file name.

        Of models.ini, only what is security-relevant is digested; of other files, the whole content.
        `active-channel` is left out if it holds what a start writes.
        """
        return {
            name: digest(name, data)
            for name, data in self.contents.items()
            if name != ACTIVE_CHANNEL or not self._is_written_by_start(data)
        }

    def loadable(self) -> dict[str, bytes]:
        """Return the content of LiteLLM's configuration and of what it can load by name."""
        return {name: data for name, data in self.contents.items() if _is_loadable(name)}

    def _is_written_by_start(self, active: bytes) -> bool:
        pinned = self.contents.get(DEFAULT_CHANNEL, b"")
        return active.split() in ([b"current"], [b"next"], pinned.split())


def digest(name: str, data: bytes) -> str:
    """Return the SHA-256 digest that is recorded for a file."""
    is_models_ini = name == MODELS_INI or Path(name).is_absolute()
    return hashlib.sha256(security_content(data) if is_models_ini else data).hexdigest()


def read_files(project: ProjectPaths) -> ProjectFiles:
    """Read the files of a project that can run a program or redirect traffic.

    AGENTS.md is not one of them: it runs nothing by itself, agents read the repository's own AGENTS.md as
    well, and it is edited often.

    Raises:
        LlmstackError: a file cannot be read or is not a regular file, or they are too many or too large.
    """
    state = project.work_dir / STATE_DIR
    names = (MODELS_INI, ACTIVE_CHANNEL, *WHOLE_FILES, *sorted(_loadable_names(state)))
    paths = {name: state / name for name in names}
    models_ini_name = MODELS_INI
    if project.models_ini != state / MODELS_INI:
        models_ini_name = resolve_path(project.models_ini)
        paths[models_ini_name] = project.models_ini
    contents, total = {}, 0
    for name, path in paths.items():
        data = read_plain_file(path)
        if data is not None:
            contents[name] = data
            total += len(data)
        if total > MAX_TOTAL_BYTES:
            raise LlmstackError(
                f"{escape_unprintable(str(state))} has more than {MAX_TOTAL_BYTES >> 20} MiB of files that"
                " count for trust",
                hint="move native modules, byte code and packages out of it",
            )
    return ProjectFiles(contents, models_ini_name)


def fingerprint(project: ProjectPaths) -> dict[str, str]:
    """Return a digest by file name for each existing file that can run a program or redirect traffic.

    Raises:
        LlmstackError: as for `read_files`.
    """
    return read_files(project).digests()


def _is_loadable(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and path.suffix.lower() in LOADABLE_SUFFIXES


def _loadable_names(state: Path) -> Iterator[str]:
    """Yield the paths below `.llmstack/` that LiteLLM's configuration can load by name.

    Raises:
        LlmstackError: there are more than `MAX_LOADABLE_FILES`.
    """
    seen: set[str] = set()
    count = 0
    for folder, folders, files in os.walk(state, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a directory that contains it
            folders.clear()
            continue
        seen.add(real)
        for file in files:
            path = Path(folder, file)
            if _is_loadable(file) and not path.is_dir():
                count += 1
                if count > MAX_LOADABLE_FILES:
                    raise LlmstackError(
                        f"{escape_unprintable(str(state))} contains more than {MAX_LOADABLE_FILES} files that"
                        " LiteLLM could load",
                        hint="move virtual environments and packages out of it",
                    )
                yield path.relative_to(state).as_posix()

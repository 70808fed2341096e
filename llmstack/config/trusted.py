"""A project whose files are trusted, and what they say.

This is the only place that turns a project's files into configuration. Each file is read once; the bytes
that were verified are the bytes that are parsed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmstack.channel import parse_marker, read_marker
from llmstack.config.parse import parse_bytes
from llmstack.errors import ConfigError, LlmstackError
from llmstack.files import write_atomic
from llmstack.trust import store as trust_store
from llmstack.trust.fingerprint import DEFAULT_CHANNEL, WHOLE_FILES, read_files
from llmstack.trust.plain_files import read_plain_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.channel import Channel
    from llmstack.config.model import StackConfig
    from llmstack.paths import PrivateFiles, Project, UserDirs
    from llmstack.trust.fingerprint import ProjectFiles


@dataclass(frozen=True, slots=True)
class TrustedProject:
    """A project whose files are trusted. Whoever has one may act on what the project says.

    Attributes:
        project: where its files are.
        user: the user's directories.
        files: the content that was verified.
        pinned: the channel it is pinned to; None if it is not installed.
        declared: models.ini as written, on channel current; None if there is none, and for a thin client,
            which has no models of its own.
    """

    project: Project
    user: UserDirs
    files: ProjectFiles
    pinned: Channel | None
    declared: StackConfig | None

    @property
    def trust_file(self) -> Path:
        """The list of trusted projects."""
        return self.user.trusted_projects

    @property
    def private(self) -> PrivateFiles:
        """Where its secrets are."""
        return self.user.private(self.project)

    @property
    def remote_url(self) -> str | None:
        """The URL of the router that a thin client uses; None if the project has models of its own."""
        return self.pinned.url if self.pinned is not None else None

    def read_active_channel(self) -> Channel | None:
        """Return the channel that runs; None if nothing runs.

        Raises:
            LlmstackError: the marker holds what no start writes.
        """
        active = read_marker(self.project.active_channel)
        if active is not None and active.url is not None and active != self.pinned:
            raise LlmstackError(
                f"{self.project.active_channel}: expected `current` or `next`, got {active}",
                hint="remove it, then run `llmstack restart`",
            )
        return active

    def write(self, texts: Mapping[Path, str]) -> TrustedProject:
        """Write files of the project, and trust what was written; nothing else becomes trusted.

        Call it while holding the project's lock.

        Returns:
            The project with the new files.

        Raises:
            LlmstackError: a file was edited since it was verified, and nothing was written; or a file cannot
                be written.
        """
        if not texts:
            return self
        names = {path: self._name_of(path) for path in texts}
        trusted_names = {self.files.models_ini_name, *WHOLE_FILES}
        for path, name in names.items():
            if name in trusted_names and read_plain_file(path) != self.files.contents.get(name):
                raise LlmstackError(f"{path} was edited meanwhile", hint="try again")
        for path, text in texts.items():
            write_atomic(path, text)
        written = {names[path]: text.encode() for path, text in texts.items() if names[path] in trusted_names}
        trust_store.record_written(self.project, self.trust_file, written)
        files = self.files._replace(contents={**self.files.contents, **written})
        after = replace(self, files=files, pinned=_parse_pinned(self.project, files))
        if files.models_ini == self.files.models_ini and after.remote_url == self.remote_url:
            return after
        return parse_verified(self.project, self.user, files)

    def _name_of(self, path: Path) -> str:
        """Return the name of a file as in `ProjectFiles`."""
        return self.files.models_ini_name if path == self.project.models_ini else path.name


def open_trusted(project: Project, user: UserDirs) -> TrustedProject:
    """Read and verify the files of a project.

    Raises:
        ConfigError: models.ini has mistakes. Whoever edits it sees them first, before the question of trust;
            nothing of an untrusted file is used.
        LlmstackError: the project is unsafe to look at, is not trusted as it is now, or a file is damaged.
    """
    trust_store.refuse_unsafe_dir(project)
    files = read_files(project)
    try:
        trust_store.verify(project, files, user.trusted_projects)
    except LlmstackError:
        _raise_mistakes(project, files)
        raise
    return parse_verified(project, user, files)


def parse_verified(project: Project, user: UserDirs, files: ProjectFiles) -> TrustedProject:
    """Return what files say that the caller has verified, or that the user has just agreed to.

    Raises:
        LlmstackError: a file is damaged or has mistakes.
    """
    pinned = _parse_pinned(project, files)
    return TrustedProject(project, user, files, pinned, _parse_models_ini(project, files, pinned))


def _parse_pinned(project: Project, files: ProjectFiles) -> Channel | None:
    data = files.contents.get(DEFAULT_CHANNEL)
    return parse_marker(data, project.default_channel) if data is not None else None


def _parse_models_ini(project: Project, files: ProjectFiles, pinned: Channel | None) -> StackConfig | None:
    is_thin_client = pinned is not None and pinned.url is not None
    if files.models_ini is None or is_thin_client:
        return None
    return parse_bytes(files.models_ini, project.models_ini)


def _raise_mistakes(project: Project, files: ProjectFiles) -> None:
    """Raise a ConfigError if an untrusted models.ini has mistakes."""
    try:
        _parse_models_ini(project, files, _parse_pinned(project, files))
    except ConfigError:
        raise
    except LlmstackError:
        pass  # that the project is not trusted is the more important error

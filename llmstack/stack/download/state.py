"""The state file of a download run, which other commands read while the run goes on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.process.identity import Identity

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.config.model import LocalChannel
    from llmstack.paths import Project, UserDirs

UNFINISHED = ("waiting", "fetching", "verifying")


@dataclass(frozen=True, slots=True)
class DownloadDir:
    """The directories with the state and the logs of a project's downloads, or of the user's."""

    directory: Path
    logs: Path

    @classmethod
    def for_project(cls, project: Project | None, user: UserDirs) -> DownloadDir:
        """Return the project's directories; the user's if there is no project."""
        if project is not None:
            return cls(project.state, project.logs)
        return cls(user.state, user.state / "logs")

    @property
    def state_file(self) -> Path:
        """The file with the state of the last run."""
        return self.directory / "downloads.json"

    @property
    def lock_file(self) -> Path:
        """The lock that a run holds until it ends."""
        return self.directory / "downloads.lock"

    def create(self) -> None:
        """Create the directories.

        Raises:
            LlmstackError: they cannot be created.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LlmstackError(f"cannot write {self.logs}: {error.strerror or error}") from error

    def log_file(self, tier: str, label: str) -> Path:
        """Return the log of one tier's file."""
        return self.logs / f"dl-{tier}-{label}.log"


@dataclass(slots=True)
class DownloadItem:
    """The GGUF of one tier, all its parts together.

    Attributes:
        label: `current` or `next`.
        state: waiting, fetching, verifying, done, failed, or `interrupted` if its process ended early.
        bytes: downloaded so far.
        total: size in bytes; None until the hub was queried.
        error: why it failed; `hint` what to do. Both are empty otherwise.
    """

    tier: str
    label: LocalChannel
    repo: str
    file: str
    state: str = "waiting"
    bytes: int = 0
    total: int | None = None
    error: str = ""
    hint: str = ""

    def mark_interrupted(self) -> None:
        """Set the state to `interrupted` unless the download ended by itself."""
        if self.state in UNFINISHED:
            self.state = "interrupted"


@dataclass(slots=True)
class DownloadRun:
    """One run: the process that downloads, and the progress of each file."""

    identity: Identity
    items: list[DownloadItem] = field(default_factory=list)

    @classmethod
    def for_this_process(cls, items: list[DownloadItem]) -> DownloadRun:
        """Return a run of this process."""
        return cls(Identity.from_pid(os.getpid()) or Identity(os.getpid(), 0.0), items)

    @property
    def is_running(self) -> bool:
        """Whether a file is unfinished and the run's process is alive."""
        return any(item.state in UNFINISHED for item in self.items) and self.identity.is_alive

    @property
    def failed_items(self) -> list[DownloadItem]:
        """The files that could not be downloaded."""
        return [item for item in self.items if item.state in {"failed", "interrupted"}]

    def save(self, download_dir: DownloadDir) -> None:
        """Write the state file."""
        record = {**self.identity.to_json(), "items": [asdict(item) for item in self.items]}
        write_atomic(download_dir.state_file, json.dumps(record, indent=1) + "\n")


def read_last_run(download_dir: DownloadDir) -> DownloadRun | None:
    """Return the last run; None if there was none, or its state file cannot be read."""
    try:
        record = json.loads(download_dir.state_file.read_text(encoding="utf-8"))
        last_run = DownloadRun(Identity.from_json(record), [_parse_item(entry) for entry in record["items"]])
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError):
        return None
    if not last_run.is_running:
        for item in last_run.items:
            item.mark_interrupted()
    return last_run


def _parse_item(entry: dict[str, Any]) -> DownloadItem:
    """Parse one item of the state file, converting every value: a cloned project may contain anything."""
    total = entry["total"]
    return DownloadItem(
        tier=str(entry["tier"]),
        label="next" if entry["label"] == "next" else "current",
        repo=str(entry["repo"]),
        file=str(entry["file"]),
        state=str(entry["state"]),
        bytes=int(entry["bytes"]),
        total=int(total) if total is not None else None,
        error=str(entry["error"]),
        hint=str(entry["hint"]),
    )

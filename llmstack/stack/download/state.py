"""What a download has done so far, in a file that other commands read while it runs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.process.identity import Identity, identity_from

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.config.model import LocalChannel
    from llmstack.paths import Project, UserDirs

UNFINISHED = ("waiting", "fetching", "verifying")


@dataclass(frozen=True, slots=True)
class DownloadDir:
    """Where downloads of a project, or of no project, are noted."""

    directory: Path
    logs: Path

    @classmethod
    def of(cls, project: Project | None, user: UserDirs) -> DownloadDir:
        """Return the project's own place, or the user's where there is no project."""
        if project is not None:
            return cls(project.state, project.logs)
        return cls(user.state, user.state / "logs")

    @property
    def state(self) -> Path:
        """The state file."""
        return self.directory / "downloads.json"

    @property
    def lock(self) -> Path:
        """Held by the process that downloads, for as long as it does."""
        return self.directory / "downloads.lock"

    def prepare(self) -> None:
        """Make the directories.

        Raises:
            LlmstackError: that is not possible.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LlmstackError(f"cannot write {self.logs}: {error.strerror or error}") from error

    def log(self, tier: str, label: str) -> Path:
        """Return the log of one tier's file."""
        return self.logs / f"dl-{tier}-{label}.log"


@dataclass(slots=True)
class Item:
    """One GGUF of one tier; `bytes` and `total` are of all its parts.

    Attributes:
        label: `current` or `next`.
        state: waiting, fetching, verifying, done, failed; `interrupted` where its process is gone.
        total: None until the hub was asked.
        error: why it failed; `hint` what to do.
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


@dataclass(slots=True)
class Downloads:
    """One run: who does it, and how far each file is."""

    identity: Identity
    items: list[Item] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether its process still works on something."""
        return any(item.state in UNFINISHED for item in self.items) and self.identity.alive

    @property
    def failed(self) -> list[Item]:
        """What could not be had."""
        return [item for item in self.items if item.state in {"failed", "interrupted"}]

    def write(self, place: DownloadDir) -> None:
        """Note it for other commands."""
        record = {**asdict(self.identity), "items": [asdict(item) for item in self.items]}
        write_atomic(place.state, json.dumps(record, indent=1) + "\n")


def mine(items: list[Item]) -> Downloads:
    """Return a run that this process does."""
    return Downloads(Identity.of(os.getpid()) or Identity(os.getpid(), 0.0), items)


def read(place: DownloadDir) -> Downloads | None:
    """Return the last run; None where there is none, or its note cannot be read."""
    try:
        record = json.loads(place.state.read_text(encoding="utf-8"))
        downloads = Downloads(identity_from(record), [_item(entry) for entry in record["items"]])
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError):
        return None
    if not downloads.running:
        for item in downloads.items:
            item.state = "interrupted" if item.state in UNFINISHED else item.state
    return downloads


def _item(entry: dict[str, Any]) -> Item:
    """Return what the note says of a file; it may be a cloned project's, so nothing is taken on trust."""
    total = entry["total"]
    return Item(
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

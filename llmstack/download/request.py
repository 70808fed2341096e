"""What to download, and the interface for following its progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """A file to download.

    Attributes:
        url: its address.
        target: its path on disk.
        size: its size in bytes; None if not known in advance.
        max_bytes: the largest size that is accepted, if `size` is None; None for any.
        sha256: its expected SHA-256; None if not known in advance.
        headers: request headers; httpx drops `Authorization` when a redirect leads to another host.
        lock: the lock file; None for one next to the target.
        label: its name in messages; empty to use the target's file name.
    """

    url: str
    target: Path
    size: int | None = None
    max_bytes: int | None = None
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    lock: Path | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return self.label or self.target.name


class FetchListener:
    """Receives the events of a download; this base class ignores them."""

    def on_progress(self, done_bytes: int, total_bytes: int | None) -> None:
        """Handle progress; `done_bytes` never decreases, `total_bytes` is None if the size is not known."""

    def on_verify(self) -> None:
        """Handle the start of the checksum computation, after the last byte arrived."""

    def notify(self, text: str) -> None:
        """Handle a message for the log: a retry, a wait for another process."""

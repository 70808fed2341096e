"""Which process is meant: pid and start time, since a pid alone is used again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.fingerprint import read_plain

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

START_TOLERANCE_S = 1.0  # start times are derived from the boot time, which a clock correction shifts


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for as long as the machine is up.

    Attributes:
        pid: process id.
        started: start time, seconds since the epoch.
    """

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return who has this pid now, or None."""
        import psutil  # noqa: PLC0415 - not needed where nothing runs, and `status` is to start fast

        try:
            return cls(pid, psutil.Process(pid).create_time())
        except (psutil.Error, ValueError):
            return None

    def process(self) -> psutil.Process | None:
        """Return the process while it runs (a zombie does not)."""
        import psutil  # noqa: PLC0415 - as above

        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) <= START_TOLERANCE_S  # False for NaN
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.Error, ValueError):  # ValueError: a negative pid
            return None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process() is not None


@dataclass(frozen=True, slots=True)
class Daemon:
    """What a pid file says: the process, its command line and the port it listens on."""

    identity: Identity
    argv: tuple[str, ...]
    port: int


def write_pid_file(path: Path, daemon: Daemon) -> None:
    """Write a pid file (JSON: pid, started, argv, port)."""
    record = {**asdict(daemon.identity), "argv": daemon.argv, "port": daemon.port}
    write_atomic(path, json.dumps(record) + "\n")


def read_pid_file(path: Path) -> Daemon | None:
    """Return what a pid file says; None where there is none.

    Raises:
        LlmstackError: the file is not one of ours.
    """
    data = read_plain(path)
    if data is None:
        return None
    try:
        record = json.loads(data)
        identity = Identity(int(record["pid"]), float(record["started"]))
        return Daemon(identity, tuple(map(str, record["argv"])), int(record["port"]))
    except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LlmstackError(
            f"{path}: expected a pid file written by llmstack: {error}",
            hint=f"see what runs with `llmstack status`, then delete {path}",
        ) from error


def running(path: Path) -> Daemon | None:
    """Return the daemon of a pid file if it still runs."""
    daemon = read_pid_file(path)
    return daemon if daemon is not None and daemon.identity.alive else None

"""Which process is meant: pid and start time, since a pid alone is used again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.trust.fingerprint import read_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psutil

START_TOLERANCE_S = 1.0  # for what writes a start time down with fewer digits
_PROC = Path("/proc")
_STARTTIME = 19  # of the fields of /proc/<pid>/stat after the program's name: field 22 in proc(5)


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for as long as the machine is up.

    Attributes:
        pid: process id.
        started: start time, seconds since the epoch.
        birth: the boot, and the clock ticks from it to the start. Linux derives start times from those and
            the clock of today, so that they move with each correction of it; empty elsewhere.
    """

    pid: int
    started: float
    birth: str = ""

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return who has this pid now, or None."""
        import psutil  # noqa: PLC0415 - not needed where nothing runs, and `status` is to start fast

        try:
            return cls(pid, psutil.Process(pid).create_time(), _birth(pid))
        except (psutil.Error, ValueError):
            return None

    def process(self) -> psutil.Process | None:
        """Return the process while it runs (a zombie does not)."""
        import psutil  # noqa: PLC0415 - as above

        try:
            process = psutil.Process(self.pid)
            if self.birth:
                same = _birth(self.pid) == self.birth
            else:
                same = abs(process.create_time() - self.started) <= START_TOLERANCE_S  # False for NaN
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.Error, ValueError):  # ValueError: a negative pid
            return None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process() is not None

    @property
    def token(self) -> str:
        """It in one word that a file name can hold."""
        return f"{self.pid}.{self.birth or int(self.started)}"

    @classmethod
    def from_token(cls, token: str) -> Identity:
        """Return who is meant by a token; ValueError where it is none."""
        pid, said = token.split(".")
        return cls(int(pid), float(said)) if said.isdecimal() else cls(int(pid), 0.0, said)


def identity_from(record: Mapping[str, Any]) -> Identity:
    """Return who is meant by the members of an identity that was written as JSON.

    Raises:
        ArithmeticError, ValueError, KeyError, TypeError: there is none in it.
    """
    return Identity(int(record["pid"]), float(record["started"]), str(record.get("birth", "")))


def _birth(pid: int) -> str:
    """Return the boot and a process' ticks since, empty where the system does not say."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return ""
    ticks = stat.rpartition(b")")[2].split()[_STARTTIME]  # the name may hold anything, brackets too
    return f"{boot}-{int(ticks)}"


@dataclass(frozen=True, slots=True)
class Daemon:
    """What a pid file says: the process, its command line and the port it listens on."""

    identity: Identity
    argv: tuple[str, ...]
    port: int


def write_pid_file(path: Path, daemon: Daemon) -> None:
    """Write a pid file (JSON: pid, started, birth, argv, port)."""
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
        return Daemon(identity_from(record), tuple(map(str, record["argv"])), int(record["port"]))
    except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LlmstackError(
            f"{path}: expected a pid file written by llmstack: {error}",
            hint=f"see what runs with `llmstack status`, then delete {path}",
        ) from error


def running(path: Path) -> Daemon | None:
    """Return the daemon of a pid file if it still runs."""
    daemon = read_pid_file(path)
    return daemon if daemon is not None and daemon.identity.alive else None

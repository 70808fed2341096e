"""Process identities (pid and start time, since the system reuses pids), and the pid files that hold them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.trust.plain_files import read_plain_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psutil

START_TOLERANCE_S = 1.0  # for start times recorded with fewer digits
_PROC = Path("/proc")
_START_TICKS = 19  # index among the fields of /proc/<pid>/stat after the program's name; field 22 in proc(5)


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifies one process, even if its pid is used again.

    Attributes:
        pid: process id.
        start_time: in seconds since the epoch.
        birth: on Linux the id of the boot and the clock ticks from it to the start, elsewhere empty. Linux
            computes start times from these ticks and the current clock, so a start time changes whenever
            the clock is corrected.
    """

    pid: int
    start_time: float
    birth: str = ""

    @classmethod
    def from_pid(cls, pid: int) -> Identity | None:
        """Return the identity of the process that has this pid now, or None if there is none."""
        import psutil  # noqa: PLC0415 - slow to import, and not needed by `status` if nothing runs

        try:
            return cls(pid, psutil.Process(pid).create_time(), _birth(pid))
        except (psutil.Error, ValueError):
            return None

    def process(self) -> psutil.Process | None:
        """Return the process if it still runs, else None; a zombie does not run."""
        import psutil  # noqa: PLC0415 - as above

        try:
            process = psutil.Process(self.pid)
            if self.birth:
                is_same = _birth(self.pid) == self.birth
            else:
                is_same = abs(process.create_time() - self.start_time) <= START_TOLERANCE_S  # False for NaN
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.Error, ValueError):  # ValueError: a negative pid
            return None

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self.process() is not None

    @property
    def token(self) -> str:
        """The identity as one word that can be part of a file name."""
        return f"{self.pid}.{self.birth or int(self.start_time)}"

    @classmethod
    def from_token(cls, token: str) -> Identity:
        """Return the identity that a token stands for.

        Raises:
            ValueError: it is not a token.
        """
        pid, start = token.split(".")
        return cls(int(pid), float(start)) if start.isdecimal() else cls(int(pid), 0.0, start)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Identity:
        """Return the identity in a parsed JSON object with the keys `pid`, `started` and `birth`.

        Raises:
            ArithmeticError, ValueError, KeyError, TypeError: the object holds no identity.
        """
        return cls(int(record["pid"]), float(record["started"]), str(record.get("birth", "")))

    def to_json(self) -> dict[str, Any]:
        """Return the members of a JSON object from which `from_json` restores the identity."""
        return {"pid": self.pid, "started": self.start_time, "birth": self.birth}


def _birth(pid: int) -> str:
    """Return the boot id and the ticks from boot to the start of a process; empty if there is no /proc."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return ""
    ticks = stat.rpartition(b")")[2].split()[_START_TICKS]  # the name may hold any character, brackets too
    return f"{boot}-{int(ticks)}"


@dataclass(frozen=True, slots=True)
class Daemon:
    """The content of a pid file: a process, its command line and its TCP port (0 if it has none)."""

    identity: Identity
    argv: tuple[str, ...]
    port: int


def write_pid_file(path: Path, daemon: Daemon) -> None:
    """Write a pid file (JSON: pid, started, birth, argv, port)."""
    record = {**daemon.identity.to_json(), "argv": daemon.argv, "port": daemon.port}
    write_atomic(path, json.dumps(record) + "\n")


def read_pid_file(path: Path) -> Daemon | None:
    """Return the content of a pid file; None if there is no such file.

    Raises:
        LlmstackError: the file was not written by llmstack.
    """
    data = read_plain_file(path)
    if data is None:
        return None
    try:
        record = json.loads(data)
        return Daemon(Identity.from_json(record), tuple(map(str, record["argv"])), int(record["port"]))
    except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LlmstackError(
            f"{path}: expected a pid file written by llmstack: {error}",
            hint=f"see what runs with `llmstack status`, then delete {path}",
        ) from error


def running_daemon(path: Path) -> Daemon | None:
    """Return the daemon that a pid file names if it still runs, else None."""
    daemon = read_pid_file(path)
    return daemon if daemon is not None and daemon.identity.is_alive else None

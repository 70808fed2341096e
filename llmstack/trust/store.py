"""Which projects may run something: a cloned repository must not, until its user has said so.

A trusted project is remembered with its path, its owner and one digest for each file that can run a
program or redirect traffic. The shell hook asks here at a prompt, so this module imports the standard
library alone; what writing needs beyond that is imported where something is written.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmstack.errors import LlmstackError
from llmstack.trust.fingerprint import STATE_DIR, Place, fingerprint, printable, read_plain, resolved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Verdict(StrEnum):
    """Where a project stands."""

    TRUSTED = "trusted"
    UNKNOWN = "unknown"
    CHANGED = "changed"


class Trust(NamedTuple):
    """A verdict, and for `CHANGED` the names of the files that differ (or `owner`)."""

    verdict: Verdict
    changed: tuple[str, ...] = ()


class TrustRecord(NamedTuple):
    """One trusted project.

    Attributes:
        path: its work dir, resolved.
        owner: user id that `.llmstack/` belonged to; None on Windows.
        trusted_at: when it was trusted.
        files: digest by file name; an absolute name where `LLMSTACK_MODELS_INI` pointed elsewhere.
    """

    path: str
    owner: int | None
    trusted_at: dt.datetime
    files: Mapping[str, str]

    @property
    def work_dir(self) -> Path:
        """The directory that holds `.llmstack/`."""
        return Path(self.path)

    @property
    def models_ini(self) -> Path:
        """The project's own file."""
        return self.work_dir / STATE_DIR / "models.ini"


def check(project: Place, store: Path) -> Trust:
    """Return where a project stands.

    A file that is gone since asks nothing: what is not there runs nothing.

    Raises:
        LlmstackError: the project is unsafe to look at, or the list of trusted projects cannot be read.
    """
    refuse_unsafe_dir(project)
    record = _find(read_store(store), project)
    if record is None:
        return Trust(Verdict.UNKNOWN)
    return _compare(record, project)


def require(project: Place, store: Path) -> None:
    """Return where the project is trusted as it is now.

    Raises:
        LlmstackError: it is not, or it is unsafe to look at.
    """
    trust = check(project, store)
    place = printable(str(project.work_dir))
    hint = f"run `llmstack trust` in {place}: it shows what the project's files would run, then asks"
    if trust.verdict is Verdict.UNKNOWN:
        raise LlmstackError(f"this project is not trusted: {place}", hint=hint)
    if trust.verdict is Verdict.CHANGED:
        names = ", ".join(printable(name) for name in trust.changed)
        raise LlmstackError(f"changed since this project was trusted: {names} (in {place})", hint=hint)


def grant(project: Place, store: Path, *, seen: Mapping[str, str] | None = None) -> None:
    """Trust a project as it is now.

    Args:
        project: the project.
        store: the list of trusted projects.
        seen: its fingerprint from before its contents were shown, where somebody was asked.

    Raises:
        LlmstackError: it differs from what was seen, is unsafe, or cannot be remembered.
    """
    from llmstack.files import exclusive  # noqa: PLC0415  the hook must not load it

    refuse_unsafe_dir(project)
    files = fingerprint(project)
    if seen is not None and files != seen:
        raise LlmstackError(
            f"the project's files changed while you were asked: {printable(str(project.work_dir))}",
            hint="look at them again: `llmstack trust`",
        )
    path = resolved(project.work_dir)
    for name in (path, *files):
        refuse_undecodable(name)
    now = dt.datetime.now(tz=dt.UTC).replace(microsecond=0)
    record = TrustRecord(path, _owner(project.work_dir / STATE_DIR), now, files)
    with exclusive(_lock(store), "trust"):
        _write_store(store, [*(old for old in read_store(store) if old.path != path), record])


def refuse_undecodable(name: str) -> None:
    """Refuse a path that cannot be written into a file.

    Raises:
        LlmstackError: it is not UTF-8.
    """
    if not name.isascii() and any("\ud800" <= char <= "\udfff" for char in name):
        raise LlmstackError(f"cannot remember a name that is not UTF-8: {printable(name)}", hint="rename it")


def revoke(work_dir: Path, store: Path) -> bool:
    """Stop trusting a project, which need not exist any more; return whether it was trusted."""
    from llmstack.files import exclusive  # noqa: PLC0415  the hook must not load it

    path = resolved(work_dir)
    with exclusive(_lock(store), "trust --revoke"):
        records = read_store(store)
        kept = [record for record in records if record.path != path]
        if len(kept) == len(records):
            return False
        _write_store(store, kept)
    return True


def refuse_unsafe_dir(project: Place, *, uid: int | None = None) -> None:
    """Refuse a `.llmstack/` that is not plainly the user's own directory, or that links out of the project.

    root may use a project that belongs to somebody else as a whole, as in a container with the project
    mounted; what it trusts there is remembered with that owner.

    Args:
        project: the project.
        uid: the user to judge for; the current one where None.

    Raises:
        LlmstackError: with what is wrong.
    """
    state = project.work_dir / STATE_DIR
    name = printable(str(state))
    if not os.path.lexists(state):
        raise LlmstackError(f"no such directory: {name}", hint="make a project of it: `llmstack install`")
    home = resolved(project.work_dir)
    if os.path.normcase(os.path.realpath(state)) != os.path.normcase(str(Path(home, STATE_DIR))):
        raise LlmstackError(
            f"{name} is a link to another place", hint="remove the link, then run `llmstack install`"
        )
    if not state.is_dir():
        raise LlmstackError(f"{name} is not a directory", hint="remove it, then run `llmstack install`")
    _refuse_foreign(project, name, uid)
    for folder, folders, files in os.walk(state):
        for entry in (*folders, *files):
            path = Path(folder, entry)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
                raise LlmstackError(
                    f"{printable(str(path))} is a link that leads out of the project",
                    hint="replace it with a file of its own",
                )


def read_store(store: Path) -> list[TrustRecord]:
    """Return every trusted project, in the order they were trusted.

    Raises:
        LlmstackError: the file is there and is not such a list; it is never taken for an empty one.
    """
    data = read_plain(store)
    try:
        tables = tomllib.loads(data.decode("utf-8"))["project"] if data is not None else []
        return [_record(table) for table in tables]
    except (ValueError, KeyError, TypeError) as error:
        raise LlmstackError(
            f"{store}: expected the list of trusted projects, got something else: {error}",
            hint="mend it, or delete it and trust your projects again with `llmstack trust`",
        ) from error


def entries(store: Path) -> list[tuple[TrustRecord, Trust | None]]:
    """Return every trusted project with where it stands now; None where it is gone or unsafe to look at."""
    listed: list[tuple[TrustRecord, Trust | None]] = []
    for record in read_store(store):
        try:
            refuse_unsafe_dir(record)
            listed.append((record, _compare(record, record)))
        except LlmstackError:
            listed.append((record, None))
    return listed


def _compare(record: TrustRecord, project: Place) -> Trust:
    now = fingerprint(project)
    changed = [name for name, digest in now.items() if record.files.get(name) != digest]
    if record.owner != _owner(project.work_dir / STATE_DIR):
        changed.append("owner")
    return Trust(Verdict.CHANGED, tuple(changed)) if changed else Trust(Verdict.TRUSTED)


def _refuse_foreign(project: Place, name: str, uid: int | None) -> None:
    if sys.platform == "win32":
        return
    owner = _owner(project.work_dir / STATE_DIR)
    user = os.getuid() if uid is None else uid
    if owner == user or (user == 0 and owner == _owner(project.work_dir)):
        return
    raise LlmstackError(
        f"{name} belongs to another user (user id {owner}, you are {user})",
        hint="work in a copy of your own, or change its owner once you have read what is in it",
    )


def _owner(path: Path) -> int | None:
    return None if sys.platform == "win32" else path.stat().st_uid


def _find(records: Iterable[TrustRecord], project: Place) -> TrustRecord | None:
    path = resolved(project.work_dir)
    return next((record for record in records if record.path == path), None)


def _record(table: Mapping[str, Any]) -> TrustRecord:
    path, owner, files = table["path"], table.get("owner"), table["files"]
    when = table["trusted_at"]
    if not isinstance(path, str) or not isinstance(owner, int | None) or not isinstance(when, dt.datetime):
        raise TypeError("a project has a `path`, an `owner` and the time it was trusted at")
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise TypeError("`files` is a table of digests")
    return TrustRecord(path, owner, when, files)


def _lock(store: Path) -> Path:
    return store.with_name(f"{store.name}.lock")


def _write_store(store: Path, records: Iterable[TrustRecord]) -> None:
    import tomli_w  # noqa: PLC0415  the hook must not load it

    from llmstack.files import write_atomic  # noqa: PLC0415  likewise

    tables = [
        {"path": record.path}
        | ({} if record.owner is None else {"owner": record.owner})
        | {"trusted_at": record.trusted_at, "files": dict(record.files)}
        for record in records
    ]
    # The shell hooks read the first line at each prompt and look again where it has changed.
    text = (
        f"# Projects that may run what their files name. Written by `llmstack trust` at {time.time_ns()}.\n"
    )
    write_atomic(store, text + tomli_w.dumps({"project": tables}), mode=0o600)

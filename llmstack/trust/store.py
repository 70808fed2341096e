"""The list of trusted projects: nothing of a cloned repository runs until its user has trusted it.

Each trusted project is recorded with its path, its owner and one digest for each file that can run a program
or redirect traffic. The shell hook imports this at a prompt, so only the standard library (and
llmstack.errors) is imported at module level; functions that write import what else they need.
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
from llmstack.trust.fingerprint import STATE_DIR, ProjectFiles, ProjectPaths, digest, fingerprint, read_files
from llmstack.trust.plain_files import escape_unprintable, read_plain_file, resolve_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


# Names of the files in the user's state directory that hold keys (paths.PrivateFiles).
SECRET_FILES = ("litellm.key", "llama-swap.yaml", "router.token")


class Verdict(StrEnum):
    """Whether a project is trusted as it is now."""

    TRUSTED = "trusted"
    UNKNOWN = "unknown"
    CHANGED = "changed"


class Trust(NamedTuple):
    """A verdict; for `CHANGED`, also the names of the files that differ, or `owner`."""

    verdict: Verdict
    changed: tuple[str, ...] = ()


class TrustRecord(NamedTuple):
    """One trusted project.

    Attributes:
        path: its work dir, absolute and without links.
        owner: user id of the owner of `.llmstack/`; None on Windows.
        trusted_at: when it was trusted.
        files: digest by file name; the name is an absolute path if `LLMSTACK_MODELS_INI` names another file.
    """

    path: str
    owner: int | None
    trusted_at: dt.datetime
    files: Mapping[str, str]

    @property
    def work_dir(self) -> Path:
        """The directory that contains `.llmstack/`."""
        return Path(self.path)

    @property
    def models_ini(self) -> Path:
        """The project's own models.ini."""
        return self.work_dir / STATE_DIR / "models.ini"


def check(project: ProjectPaths, trust_file: Path) -> Trust:
    """Return whether a project is trusted as it is now.

    A file that was removed since changes nothing: it cannot run anything any more.

    Raises:
        LlmstackError: the project is unsafe to look at, or the list of trusted projects cannot be read.
    """
    refuse_unsafe_dir(project)
    return judge(project, read_files(project), trust_file)


def verify(project: ProjectPaths, files: ProjectFiles, trust_file: Path) -> None:
    """Refuse files of a project that are not trusted. Whoever acts on them uses `files`, not the disk.

    Raises:
        LlmstackError: they are not trusted, or the list of trusted projects cannot be read.
    """
    if not files.contents:
        return  # nothing to act on
    trust = judge(project, files, trust_file)
    work_dir = escape_unprintable(str(project.work_dir))
    hint = f"run `llmstack trust` in {work_dir}: it shows what the project's files would run, then asks"
    if trust.verdict is Verdict.UNKNOWN:
        raise LlmstackError(f"this project is not trusted: {work_dir}", hint=hint)
    if trust.verdict is Verdict.CHANGED:
        names = ", ".join(escape_unprintable(name) for name in trust.changed)
        raise LlmstackError(f"changed since this project was trusted: {names} (in {work_dir})", hint=hint)


def grant(project: ProjectPaths, trust_file: Path, *, expected: Mapping[str, str]) -> None:
    """Trust a project as the user reviewed it.

    Args:
        project: the project.
        trust_file: the list of trusted projects.
        expected: its fingerprint from before the user reviewed it.

    Raises:
        LlmstackError: its fingerprint is another one now, it is unsafe, or it cannot be recorded.
    """
    refuse_unsafe_dir(project)
    files = fingerprint(project)
    if files != expected:
        raise LlmstackError(
            f"the project's files changed while you were asked: {escape_unprintable(str(project.work_dir))}",
            hint="look at them again: `llmstack trust`",
        )
    _record(project, trust_file, lambda _: files)


def record_written(project: ProjectPaths, trust_file: Path, written: Mapping[str, bytes]) -> None:
    """Trust what llmstack itself wrote, and nothing else that may have changed in the meantime.

    A project that is not on the list is added.

    Args:
        project: the project.
        trust_file: the list of trusted projects.
        written: content by file name, as in `ProjectFiles`.
    """
    digests = {name: digest(name, data) for name, data in written.items()}
    _record(project, trust_file, lambda files: {**files, **digests})


def _record(
    project: ProjectPaths,
    trust_file: Path,
    update: Callable[[Mapping[str, str]], Mapping[str, str]],
) -> None:
    """Write a project's digests: what `update` returns for those on the list."""
    from llmstack.files import exclusive_lock  # noqa: PLC0415  the hook must not load it

    path = resolve_path(project.work_dir)
    owner = _owner(project.work_dir / STATE_DIR)
    now = dt.datetime.now(tz=dt.UTC).replace(microsecond=0)
    with exclusive_lock(_lock_path(trust_file), "trust"):
        records = read_trust_file(trust_file)
        known = _find_record(records, project)
        files = update(known.files if known is not None else {})
        for name in (path, *files):
            refuse_undecodable(name)
        others = [other for other in records if other.path != path]
        _write_trust_file(trust_file, [*others, TrustRecord(path, owner, now, files)])


def refuse_undecodable(name: str) -> None:
    """Refuse a path that is not UTF-8: it cannot be written into the list of trusted projects.

    Raises:
        LlmstackError: it is not UTF-8.
    """
    if not name.isascii() and any("\ud800" <= char <= "\udfff" for char in name):
        raise LlmstackError(
            f"cannot remember a name that is not UTF-8: {escape_unprintable(name)}", hint="rename it"
        )


def revoke(work_dir: Path, trust_file: Path) -> bool:
    """Stop trusting a project, which need not exist any more; return whether it was trusted."""
    from llmstack.files import exclusive_lock  # noqa: PLC0415  the hook must not load it

    path = resolve_path(work_dir)
    with exclusive_lock(_lock_path(trust_file), "trust --revoke"):
        records = read_trust_file(trust_file)
        others = [record for record in records if record.path != path]
        if len(others) == len(records):
            return False
        _write_trust_file(trust_file, others)
    return True


def refuse_unsafe_dir(project: ProjectPaths, *, uid: int | None = None) -> None:
    """Refuse a `.llmstack/` that is not the user's own directory, or that has links out of the project.

    root may use a project if another user owns all of it, as with a project mounted into a container; what
    root trusts there is recorded with that owner.

    Args:
        project: the project.
        uid: id of the user; None for the current one.

    Raises:
        LlmstackError: the directory is missing or unsafe.
    """
    state = project.work_dir / STATE_DIR
    name = escape_unprintable(str(state))
    if not os.path.lexists(state):
        raise LlmstackError(f"no such directory: {name}", hint="make a project of it: `llmstack install`")
    home = resolve_path(project.work_dir)
    if os.path.normcase(os.path.realpath(state)) != os.path.normcase(str(Path(home, STATE_DIR))):
        raise LlmstackError(
            f"{name} is a link to another place", hint="remove the link, then run `llmstack install`"
        )
    if not state.is_dir():
        raise LlmstackError(f"{name} is not a directory", hint="remove it, then run `llmstack install`")
    _refuse_other_owner(project, name, uid)
    _refuse_secrets(state)
    for folder, folders, files in os.walk(state):
        for entry in (*folders, *files):
            path = Path(folder, entry)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
                raise LlmstackError(
                    f"{escape_unprintable(str(path))} is a link that leads out of the project",
                    hint="replace it with a file of its own",
                )


def read_trust_file(trust_file: Path) -> list[TrustRecord]:
    """Return every trusted project, in the order in which they were trusted.

    Raises:
        LlmstackError: the file exists and is not such a list; it is never taken for an empty list.
    """
    data = read_plain_file(trust_file)
    try:
        tables = tomllib.loads(data.decode("utf-8"))["project"] if data is not None else []
        return [_parse_record(table) for table in tables]
    except (ValueError, KeyError, TypeError) as error:
        raise LlmstackError(
            f"{trust_file}: expected the list of trusted projects, got something else: {error}",
            hint="fix it, or delete it and trust your projects again with `llmstack trust`",
        ) from error


def list_trusted(trust_file: Path) -> list[tuple[TrustRecord, Trust | None]]:
    """Return every trusted project with its trust now; None if it is missing or unsafe to look at."""
    projects: list[tuple[TrustRecord, Trust | None]] = []
    for record in read_trust_file(trust_file):
        try:
            refuse_unsafe_dir(record)
            projects.append((record, _compare(record, record, read_files(record))))
        except LlmstackError:
            projects.append((record, None))
    return projects


def judge(project: ProjectPaths, files: ProjectFiles, trust_file: Path) -> Trust:
    """Return whether these files of a project are trusted."""
    record = _find_record(read_trust_file(trust_file), project)
    return _compare(record, project, files) if record is not None else Trust(Verdict.UNKNOWN)


def _compare(record: TrustRecord, project: ProjectPaths, files: ProjectFiles) -> Trust:
    changed = [name for name, value in files.digests().items() if record.files.get(name) != value]
    if record.owner != _owner(project.work_dir / STATE_DIR):
        changed.append("owner")
    return Trust(Verdict.CHANGED, tuple(changed)) if changed else Trust(Verdict.TRUSTED)


def _refuse_secrets(state: Path) -> None:
    """Refuse files that would hold a secret: one that came with a repository is known to its author."""
    for name in SECRET_FILES:
        if os.path.lexists(state / name):
            raise LlmstackError(
                f"{escape_unprintable(str(state / name))} would hold a secret, which is never in a project",
                hint="remove it: llmstack keeps keys in the user's state directory",
            )


def _refuse_other_owner(project: ProjectPaths, name: str, uid: int | None) -> None:
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


def _find_record(records: Iterable[TrustRecord], project: ProjectPaths) -> TrustRecord | None:
    path = resolve_path(project.work_dir)
    return next((record for record in records if record.path == path), None)


def _parse_record(table: Mapping[str, Any]) -> TrustRecord:
    path, owner, trusted_at, files = table["path"], table.get("owner"), table["trusted_at"], table["files"]
    if (
        not isinstance(path, str)
        or not isinstance(owner, int | None)
        or not isinstance(trusted_at, dt.datetime)
    ):
        raise TypeError("a project has a `path`, an `owner` and the time when it was trusted, `trusted_at`")
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise TypeError("`files` is a table of digests")
    return TrustRecord(path, owner, trusted_at, files)


def _lock_path(trust_file: Path) -> Path:
    return trust_file.with_name(f"{trust_file.name}.lock")


def _write_trust_file(trust_file: Path, records: Iterable[TrustRecord]) -> None:
    import tomli_w  # noqa: PLC0415  the hook must not load it

    from llmstack.files import write_atomic  # noqa: PLC0415  likewise

    tables = [
        {"path": record.path}
        | ({} if record.owner is None else {"owner": record.owner})
        | {"trusted_at": record.trusted_at, "files": dict(record.files)}
        for record in records
    ]
    # The shell hooks read the first line at each prompt, and check the project again if the line has changed.
    text = (
        f"# Projects that may run what their files name. Written by `llmstack trust` at {time.time_ns()}.\n"
    )
    write_atomic(trust_file, text + tomli_w.dumps({"project": tables}), mode=0o600)

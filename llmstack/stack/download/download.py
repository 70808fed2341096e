"""Fetching GGUFs: in a process of its own, or here and now."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.download.fetch import Watcher
from llmstack.errors import LlmstackError
from llmstack.files import LockedError, exclusive
from llmstack.hub.files import Hub
from llmstack.llama_cpp.weights import hub_cache, shards
from llmstack.process.child import rotating_log
from llmstack.process.daemon import spawn_daemon
from llmstack.stack.download.state import UNFINISHED, DownloadDir, Downloads, Item, mine, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from logging.handlers import RotatingFileHandler

    from llmstack.hub.files import HubFile
    from llmstack.stack.download.plan import Planned

NOTE_S = 0.5  # how often the state file is written
POLL_S = 0.1
LOG_EVERY = 0.05  # of a file: how often its log gets a line


def start(planned: Planned, place: DownloadDir, env: Mapping[str, str]) -> Downloads:
    """Fetch in the background, and return the run once it is under way.

    Raises:
        LlmstackError: another download is running here, or the process ended at once.
    """
    refuse_second(place)
    place.prepare()
    output = place.logs / "downloads.log"  # of what should never happen: each file has a log of its own
    output.unlink(missing_ok=True)
    argv = [
        sys.executable,
        "-P",
        "-m",
        "llmstack.stack.download.worker",
        str(place.directory),
        str(place.logs),
    ]
    argv += [f"{item.tier}\t{item.label}\t{item.repo}\t{item.file}" for item in planned.items]
    process, identity = spawn_daemon(argv, env=env, cwd=place.directory, log=output)
    while True:
        now = read(place)
        if now is not None and now.identity.pid == identity.pid:
            return now
        if process.poll() is not None:
            refuse_second(place)
            raise LlmstackError("the download ended at once", hint=f"see {output}")
        time.sleep(POLL_S / 10)


def refuse_second(place: DownloadDir) -> None:
    """Raise where a download is running here already.

    Raises:
        LlmstackError: it is.
    """
    now = read(place)
    if now is not None and now.running:
        names = ", ".join(f"{item.tier} ({item.label})" for item in now.items)
        raise LlmstackError(
            f"a download is running already (pid {now.identity.pid}): {names}",
            hint="see it with `llmstack status`, or wait for it with `llmstack download --wait`",
        )


def follow(place: DownloadDir, show: Callable[[Downloads], None]) -> None:
    """Show a run of another process until it ends; nothing where there is none."""
    while (now := read(place)) is not None and now.running:
        show(now)
        time.sleep(POLL_S)
    if now is not None:
        show(now)


def fetch_here(
    planned: Callable[[], Planned],
    place: DownloadDir,
    env: Mapping[str, str],
    *,
    show: Callable[[Downloads], None],
    tell: Callable[[str], None],
) -> Downloads | None:
    """Fetch and wait; a download that runs here already is waited for first, and shown.

    Args:
        planned: says what is to be fetched still; asked again after the wait.
        place: where it is noted.
        env: for the hub.
        show: called with how far it is.
        tell: called with what is waited for.

    Returns:
        What was done; None where nothing had to be.
    """
    while True:
        now = read(place)
        if now is not None and now.running:
            tell(f"a download is running already (pid {now.identity.pid}): waiting for it")
            follow(place, show)
        items = planned().items
        if not items:
            return None
        try:
            return run(items, place, env, show)
        except LockedError:
            time.sleep(POLL_S)  # it has begun, and will have noted so in a moment


def run(
    items: list[Item],
    place: DownloadDir,
    env: Mapping[str, str],
    show: Callable[[Downloads], None] = lambda _: None,
) -> Downloads:
    """Fetch here and now; what failed is said in the items.

    Raises:
        LlmstackError: another download is running here.
    """
    place.prepare()
    with exclusive(place.lock, "download", wait_s=0):
        run = _Run(items, place, env, show)
        try:
            asyncio.run(run.all())
        finally:
            for item in run.downloads.items:
                item.state = "interrupted" if item.state in UNFINISHED else item.state
            run.note(force=True)
    return run.downloads


class _Run:
    """One run over several files, one after the other: each uses the whole line."""

    def __init__(
        self, items: list[Item], place: DownloadDir, env: Mapping[str, str], show: Callable[[Downloads], None]
    ) -> None:
        self.downloads = mine(items)
        self._place, self._show = place, show
        self._hub = Hub(env, hub_cache(env))
        self._noted_at = 0.0

    def note(self, *, force: bool = False) -> None:
        """Show how far it is, and now and then write it down."""
        self._show(self.downloads)
        if force or time.monotonic() - self._noted_at >= NOTE_S:
            self._noted_at = time.monotonic()
            self.downloads.write(self._place)

    async def all(self) -> None:
        self.note(force=True)
        found = await asyncio.gather(*(self._look_up(item) for item in self.downloads.items))
        for item, files in zip(self.downloads.items, found, strict=True):
            if files:
                await self._fetch(item, files)

    async def _look_up(self, item: Item) -> list[HubFile]:
        """Ask for every part of a model at one revision, so that the totals are known before it begins."""
        names = [part.as_posix() for part in shards(Path(item.file))]
        files: list[HubFile] = []
        with self._reported(item):
            for name in names:
                revision = files[0].commit if files else "main"
                files.append(await self._hub.find(item.repo, name, revision=revision))
            item.total = sum(file.size for file in files)
            self.note()
            return files
        return []

    async def _fetch(self, item: Item, files: list[HubFile]) -> None:
        with self._reported(item) as log:
            before = 0
            for file in files:
                item.state = "fetching"
                await self._hub.download(file, watcher=_Watcher(item, before, self.note, log))
                before += file.size
            self._hub.publish(files)
            item.state, item.bytes = "done", before
            log(
                f"done: {before} bytes, SHA-256 {'verified' if all(f.sha256 for f in files) else 'not known'}"
            )

    @contextlib.contextmanager
    def _reported(self, item: Item) -> Iterator[Callable[[str], None]]:
        """Give the block the item's log; an expected failure in it is the item's, not the run's."""
        handler = rotating_log(self._place.log(item.tier, item.label))
        log = _logger(handler)
        try:
            yield log
        except LlmstackError as error:
            item.state, item.error, item.hint = "failed", error.message, error.hint or ""
            log(f"error: {error.message}")
            if error.hint:
                log(f"hint: {error.hint}")
        finally:
            handler.close()
            self.note(force=True)


class _Watcher(Watcher):
    """Takes the progress of one part into its item."""

    def __init__(self, item: Item, before: int, note: Callable[[], None], log: Callable[[str], None]) -> None:
        self._item, self._before, self._note, self._log = item, before, note, log
        self._logged = 0.0

    def tell(self, text: str) -> None:
        self._log(text)

    def progress(self, done: int, total: int | None) -> None:  # noqa: ARG002 - the item knows its total
        item = self._item
        item.bytes = max(item.bytes, self._before + done)
        share = item.bytes / item.total if item.total else 0.0
        if share - self._logged >= LOG_EVERY:
            self._logged = share
            self.tell(f"{share:.0%}, {item.bytes} of {item.total} bytes")
        self._note()

    def verifying(self) -> None:
        self._item.state = "verifying"
        self._note()


def _logger(handler: RotatingFileHandler) -> Callable[[str], None]:
    def log(text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        handler.emit(logging.makeLogRecord({"msg": f"{stamp} {text}"}))

    return log

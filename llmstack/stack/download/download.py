"""Downloading GGUF files in a background process, or in this one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.download.request import FetchListener
from llmstack.errors import LlmstackError
from llmstack.files import LockedError, exclusive_lock
from llmstack.hub.files import Hub
from llmstack.llama_cpp.weights import hub_cache, shards
from llmstack.process.daemon import spawn_daemon
from llmstack.process.output_log import rotating_log
from llmstack.stack.download.state import DownloadRun, read_last_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmstack.hub.files import HubFile
    from llmstack.stack.download.plan import DownloadPlan
    from llmstack.stack.download.state import DownloadDir, DownloadItem

SAVE_INTERVAL_S = 0.5  # how often the state file is written
POLL_S = 0.1
START_POLL_S = 0.01
LOG_STEP = 0.05  # a file's log gets a line each time this share of it has arrived


def start_in_background(plan: DownloadPlan, download_dir: DownloadDir, env: Mapping[str, str]) -> DownloadRun:
    """Start a process that downloads, and return its run once it has written its state.

    Raises:
        LlmstackError: another download runs here, or the process ended at once.
    """
    refuse_if_running(download_dir)
    download_dir.create()
    log = download_dir.logs / "downloads.log"  # for crashes only: each file has its own log
    log.unlink(missing_ok=True)
    argv = [
        sys.executable,
        "-P",
        "-m",
        "llmstack.stack.download.worker",
        str(download_dir.directory),
        str(download_dir.logs),
    ]
    argv += [f"{item.tier}\t{item.label}\t{item.repo}\t{item.file}" for item in plan.items]
    process, identity = spawn_daemon(argv, env=env, cwd=download_dir.directory, log=log)
    while True:
        last_run = read_last_run(download_dir)
        if last_run is not None and last_run.identity.pid == identity.pid:
            return last_run
        if process.poll() is not None:
            refuse_if_running(download_dir)
            raise LlmstackError("the download process ended at once", hint=f"see {log}")
        time.sleep(START_POLL_S)


def refuse_if_running(download_dir: DownloadDir) -> None:
    """Verify that no download runs here.

    Raises:
        LlmstackError: one does.
    """
    last_run = read_last_run(download_dir)
    if last_run is not None and last_run.is_running:
        names = ", ".join(f"{item.tier} ({item.label})" for item in last_run.items)
        raise LlmstackError(
            f"a download is running already (pid {last_run.identity.pid}): {names}",
            hint="see it with `llmstack status`, or wait for it with `llmstack download --wait`",
        )


def follow_run(download_dir: DownloadDir, show: Callable[[DownloadRun], None]) -> None:
    """Show the run of another process until it ends; do nothing if there is none."""
    while (last_run := read_last_run(download_dir)) is not None and last_run.is_running:
        show(last_run)
        time.sleep(POLL_S)
    if last_run is not None:
        show(last_run)


def download_and_wait(
    make_plan: Callable[[], DownloadPlan],
    download_dir: DownloadDir,
    env: Mapping[str, str],
    *,
    show: Callable[[DownloadRun], None],
    notify: Callable[[str], None],
) -> DownloadRun | None:
    """Download in this process, after waiting for a download that runs here already.

    Args:
        make_plan: returns what has to be downloaded; called again after the wait.
        download_dir: for the state and the logs.
        env: for the hub.
        show: called with the progress.
        notify: called with a message if another download is waited for.

    Returns:
        The finished run; None if nothing had to be downloaded.
    """
    while True:
        last_run = read_last_run(download_dir)
        if last_run is not None and last_run.is_running:
            notify(f"a download is running already (pid {last_run.identity.pid}): waiting for it")
            follow_run(download_dir, show)
        items = make_plan().items
        if not items:
            return None
        try:
            return run_downloads(items, download_dir, env, show)
        except LockedError:
            time.sleep(POLL_S)  # another run has just started, and is about to write its state


def run_downloads(
    items: list[DownloadItem],
    download_dir: DownloadDir,
    env: Mapping[str, str],
    show: Callable[[DownloadRun], None] = lambda _: None,
) -> DownloadRun:
    """Download in this process; errors of single files are recorded in their items.

    Raises:
        LockedError: another download runs here.
        LlmstackError: the state or a log cannot be written.
    """
    download_dir.create()
    with exclusive_lock(download_dir.lock_file, "download", wait_s=0):
        downloader = _Downloader(items, download_dir, env, show)
        try:
            asyncio.run(downloader.download_all())
        finally:
            for item in downloader.run.items:
                item.mark_interrupted()
            downloader.report(save=True)
    return downloader.run


class _Downloader:
    """Downloads one model after the other, because each already uses the whole bandwidth."""

    def __init__(
        self,
        items: list[DownloadItem],
        download_dir: DownloadDir,
        env: Mapping[str, str],
        show: Callable[[DownloadRun], None],
    ) -> None:
        self.run = DownloadRun.for_this_process(items)
        self._download_dir, self._show = download_dir, show
        self._hub = Hub(env, hub_cache(env))
        self._saved_at = 0.0

    def report(self, *, save: bool = False) -> None:
        """Show the progress, and save it from time to time, or now if `save`."""
        self._show(self.run)
        if save or time.monotonic() - self._saved_at >= SAVE_INTERVAL_S:
            self._saved_at = time.monotonic()
            self.run.save(self._download_dir)

    async def download_all(self) -> None:
        self.report(save=True)
        looked_up = await asyncio.gather(*(self._look_up(item) for item in self.run.items))
        for item, files in zip(self.run.items, looked_up, strict=True):
            if files:
                await self._download(item, files)

    async def _look_up(self, item: DownloadItem) -> list[HubFile]:
        """Return all parts of a model at one revision, so that the total is known; empty if that failed."""
        names = [part.as_posix() for part in shards(Path(item.file))]
        files: list[HubFile] = []
        with self._recording_errors(item):
            for name in names:
                revision = files[0].commit if files else "main"
                files.append(await self._hub.find(item.repo, name, revision=revision))
            item.total = sum(file.size for file in files)
            self.report()
            return files
        return []

    async def _download(self, item: DownloadItem, files: list[HubFile]) -> None:
        with self._recording_errors(item) as log:
            offset = 0
            for file in files:
                item.state = "fetching"
                await self._hub.download(file, listener=_PartListener(item, offset, self.report, log))
                offset += file.size
            self._hub.publish(files)
            item.state, item.bytes = "done", offset
            checksums = "verified" if all(file.sha256 for file in files) else "not known"
            log(f"done: {offset} bytes, SHA-256 {checksums}")

    @contextlib.contextmanager
    def _recording_errors(self, item: DownloadItem) -> Iterator[Callable[[str], None]]:
        """Yield a writer to the item's log; an LlmstackError in the block is recorded in the item."""
        handler = rotating_log(self._download_dir.log_file(item.tier, item.label))

        def log(text: str) -> None:
            timestamp = time.strftime("%Y-%m-%d %H:%M:%S")
            handler.emit(logging.makeLogRecord({"msg": f"{timestamp} {text}"}))

        try:
            yield log
        except LlmstackError as error:
            item.state, item.error, item.hint = "failed", error.message, error.hint or ""
            log(f"error: {error.message}")
            if error.hint:
                log(f"hint: {error.hint}")
        finally:
            handler.close()
            self.report(save=True)


class _PartListener(FetchListener):
    """Adds the progress of one part, which begins at byte `offset` of the model, to the item."""

    def __init__(
        self, item: DownloadItem, offset: int, report: Callable[[], None], log: Callable[[str], None]
    ) -> None:
        self._item, self._offset, self._report, self._log = item, offset, report, log
        self._logged_share = 0.0

    def notify(self, text: str) -> None:
        self._log(text)

    def on_progress(self, done_bytes: int, total_bytes: int | None) -> None:  # noqa: ARG002 - of one part only
        item = self._item
        item.bytes = max(item.bytes, self._offset + done_bytes)
        share = item.bytes / item.total if item.total else 0.0
        if share - self._logged_share >= LOG_STEP:
            self._logged_share = share
            self._log(f"{share:.0%}, {item.bytes} of {item.total} bytes")
        self._report()

    def on_verify(self) -> None:
        self._item.state = "verifying"
        self._report()

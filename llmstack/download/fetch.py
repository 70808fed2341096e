"""One file over HTTP: resumed where it stopped, several ranges at once, verified, named only when whole."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import shutil
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from llmstack.download.partial_file import Partial
from llmstack.download.range_response import (
    ChangedError,
    TransientError,
    content_range,
    describe,
    length,
    refuse,
    strong_etag,
)
from llmstack.download.retry import FetchLimits, Patience
from llmstack.errors import LlmstackError
from llmstack.files import LockedError, exclusive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping
    from pathlib import Path

PARTIAL, WHOLE = 206, 200
EMPTY_RANGE = 416
SMALLEST_CHUNK = 4 * 1024**2
HASH_BYTES = 32 * 1024**2
LOCK_POLL_S = 0.2
FEW_BYTES = 4096  # fewer than that in `stall_s` counts as nothing


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """A file to fetch.

    Attributes:
        headers: for the first server only where they are credentials: no other host gets them.
        size: in bytes, where it is known beforehand; likewise `sha256`.
        lock: lock file; beside the target unless another one is shared with other programs.
        label: what messages call it, where its name on this disk says nothing.
    """

    url: str
    target: Path
    size: int | None = None
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    lock: Path | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.label or self.target.name


class Watcher:
    """Hears how a fetch goes; this one does not care."""

    def progress(self, done: int, total: int | None) -> None:
        """So many bytes are here; never fewer than before."""

    def verifying(self) -> None:
        """All bytes are here and their checksum is computed."""

    def tell(self, text: str) -> None:
        """Something worth a line in a log: a retry, a wait."""


async def fetch(
    wanted: FetchRequest, *, limits: FetchLimits | None = None, watcher: Watcher | None = None
) -> None:
    """Fetch a file unless it is there; what an interrupted run left is taken up.

    Raises:
        LlmstackError: it cannot be had, or is not what was expected; nothing that looks complete is left.
    """
    limits, watcher = limits or FetchLimits(), watcher or Watcher()
    lock = wanted.lock or wanted.target.with_name(f"{wanted.target.name}.lock")
    async with _locked(lock, watcher):
        if wanted.target.is_file() and wanted.size in {None, wanted.target.stat().st_size}:
            return
        timeout = httpx.Timeout(limits.connect_s, read=limits.stall_s)
        async with httpx.AsyncClient(follow_redirects=True, timeout=timeout) as client:
            await _Fetch(wanted, limits, watcher, client).run()


@contextlib.asynccontextmanager
async def _locked(lock: Path, watcher: Watcher) -> AsyncIterator[None]:
    """Hold the file's lock; somebody else's download of the same file is waited for."""
    with contextlib.ExitStack() as stack:
        for turn in itertools.count():
            try:
                stack.enter_context(exclusive(lock, "download", wait_s=0))
                break
            except LockedError as held:
                if turn == 1:  # who it is stands beside the lock a moment after it was taken
                    watcher.tell(f"waiting: {held.message}")
                await asyncio.sleep(LOCK_POLL_S)
        yield


@dataclass(slots=True)
class _Chunk:
    """A stretch to fetch: `start` moves on as its bytes arrive."""

    start: int
    end: int


class _Fetch:
    """One run. A round asks what the file is and fetches what is missing of it, until nothing is."""

    def __init__(
        self, wanted: FetchRequest, limits: FetchLimits, watcher: Watcher, client: httpx.AsyncClient
    ) -> None:
        self._wanted, self._limits, self._watcher, self._client = wanted, limits, watcher, client
        self._partial = Partial(wanted.target, size=wanted.size, sha256=wanted.sha256)
        self._resumed = bool(self._partial.spans.done)
        self._chunks: deque[_Chunk] = deque()
        self._shown = 0
        self._patience = Patience(limits, wanted.name, watcher.tell)

    async def run(self) -> None:
        try:
            await self._until_right()
        finally:
            if self._partial.spans.done and not self._wanted.target.is_file():
                self._partial.save()
            self._partial.close()

    async def _until_right(self) -> None:
        while True:
            # What an earlier run had fetched whole needs no server where a checksum can tell.
            if not (self._partial.complete and self._wanted.sha256):
                await self._until_whole()
            if await self._right():
                self._partial.finish(self._wanted.target)
                return
            self._partial.reset()
            if not self._resumed:
                raise LlmstackError(
                    f"{self._wanted.name}: the SHA-256 of what was fetched is not {self._wanted.sha256}",
                    hint="the file was removed; try again later, or from another network",
                )
            self._resumed = False
            self._watcher.tell("the checksum is wrong after a resumed download: once more from the start")

    async def _until_whole(self) -> None:
        while True:
            try:
                await self._round()
            except ChangedError as change:
                self._partial.reset()
                await self._patience.after(TransientError(str(change)))
            except TransientError as failure:
                await self._patience.after(failure)
            else:
                return

    async def _round(self) -> None:
        async with self._open(0, 0, only_if=None) as response:
            if response.status_code == WHOLE:
                await self._stream(response)
                return
            size = 0 if response.status_code == EMPTY_RANGE else content_range(response, start=0)[1]
            self._take(size=size, etag=response.headers.get("etag"))
        size, limits = self._partial.size or 0, self._limits
        share = max(SMALLEST_CHUNK, -(-size // limits.connections))  # so that every connection has work
        missing = self._partial.spans.missing(size, min(limits.chunk_bytes, share))
        self._chunks = deque(_Chunk(start, end) for start, end in missing)
        self._report()
        count = min(limits.connections, len(self._chunks))
        await _all([self._worker() for _ in range(count)])
        if self._partial.size == 0:
            self._partial.write(0, b"")

    def _take(self, *, size: int, etag: str | None) -> None:
        """Note what the server has now; what is here of something else is dropped."""
        if self._wanted.size not in {None, size}:
            raise LlmstackError(
                f"{self._wanted.name}: expected {self._wanted.size} bytes, the server has {size}",
                hint="the file may have been replaced; try again later",
            )
        known = self._partial
        if known.spans.done and (known.size != size or known.etag != etag):
            self._watcher.tell("the file has changed on the server: starting again")
            known.reset()
        self._check_disk(size - known.spans.count)
        known.describe(size=size, etag=etag)

    def _check_disk(self, need: int) -> None:
        place = self._wanted.target.parent
        place.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(place).free
        if need > free:
            has = f"{place} has {free / 1e9:.1f} GB free"
            raise LlmstackError(
                f"{self._wanted.name} needs {need / 1e9:.1f} GB more, and {has}",
                hint="free some disk space, or set HF_HOME to a larger disk",
            )

    async def _worker(self) -> None:
        """Fetch one chunk after the other over one connection."""
        while self._chunks:
            chunk = self._chunks.popleft()
            try:
                await self._range(chunk)
            except TransientError as failure:
                self._chunks.appendleft(chunk)
                await self._patience.after(failure)

    async def _range(self, chunk: _Chunk) -> None:
        async with self._open(chunk.start, chunk.end - 1, only_if=self._partial.etag) as response:
            etag = response.headers.get("etag")
            if response.status_code != PARTIAL or etag != self._partial.etag:
                raise ChangedError("the file changed on the server meanwhile: starting again")
            if content_range(response, start=chunk.start)[1] != self._partial.size:
                raise ChangedError("the file's size changed on the server meanwhile: starting again")
            async for piece in self._pieces(response):
                data = piece[: chunk.end - chunk.start]
                self._partial.write(chunk.start, data)
                chunk.start += len(data)
                self._report()
        if chunk.start < chunk.end:
            raise TransientError(f"the connection was cut with {chunk.end - chunk.start} bytes to come")

    async def _stream(self, response: httpx.Response) -> None:
        """Take the whole file from a server that knows no ranges."""
        self._partial.reset()
        size = length(response)
        if size is not None:
            self._take(size=size, etag=None)
        position = 0
        async for piece in self._pieces(response):
            self._partial.write(position, piece)
            position += len(piece)
            self._report()
        if size is None and self._wanted.size is None:
            self._partial.describe(size=position, etag=None)  # its end is where the stream ended whole
        if not self._partial.complete:
            raise TransientError(
                f"the connection was cut after {position} bytes, and the server knows no ranges"
            )

    @contextlib.asynccontextmanager
    async def _open(self, first: int, last: int, *, only_if: str | None) -> AsyncIterator[httpx.Response]:
        """Ask for a range; failures that pass are TransientError, also while the answer is read."""
        headers = {"Accept-Encoding": "identity", **self._wanted.headers, "Range": f"bytes={first}-{last}"}
        if only_if is not None and strong_etag(only_if):
            headers["If-Range"] = only_if
        try:
            async with self._client.stream("GET", self._wanted.url, headers=headers) as response:
                refuse(response, self._wanted.name)
                yield response
        except httpx.TransportError as error:
            raise TransientError(describe(error, stall_s=self._limits.stall_s)) from error
        except (httpx.TooManyRedirects, httpx.InvalidURL) as error:
            raise LlmstackError(f"{self._wanted.name}: {error}") from error

    async def _pieces(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield what arrives; a connection that only trickles is taken for a dead one."""
        since, few = time.monotonic(), 0
        async for piece in response.aiter_raw():
            yield piece
            few += len(piece)
            if (now := time.monotonic()) - since > self._limits.stall_s:
                if few < FEW_BYTES:
                    raise TransientError(f"only {few} bytes came in {self._limits.stall_s:g} s")
                since, few = now, 0

    def _report(self) -> None:
        done = self._partial.spans.count
        if done > self._shown:
            self._shown = done
            self._patience.progressed()
        self._watcher.progress(self._shown, self._partial.size)

    async def _right(self) -> bool:
        """Compare the SHA-256, where one is expected."""
        if self._wanted.sha256 is None:
            return True
        self._watcher.verifying()
        digest = hashlib.sha256()
        with self._partial.path.open("rb") as file:
            # Piece by piece, so that Ctrl-C need not wait for 45 GB
            while piece := await asyncio.to_thread(file.read, HASH_BYTES):
                await asyncio.to_thread(digest.update, piece)
        return digest.hexdigest() == self._wanted.sha256.lower()


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    """Run them at once; the first failure ends the others and is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Download one file over HTTP: resumable, in parallel ranges, verified, and renamed only once complete."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import shutil
import time
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx

from llmstack.download.bounded import follow_redirects
from llmstack.download.partial_file import PartialFile
from llmstack.download.range_response import (
    FileChangedError,
    TransientError,
    content_length,
    describe_error,
    is_strong_etag,
    parse_content_range,
    raise_for_status,
)
from llmstack.download.request import FetchListener
from llmstack.download.retry import Backoff, FetchLimits
from llmstack.errors import LlmstackError
from llmstack.files import LockedError, exclusive_lock
from llmstack.units import MB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from llmstack.download.request import FetchRequest

MIN_CHUNK_BYTES = 4 * MB
HASH_BLOCK_BYTES = 32 * MB
LOCK_POLL_S = 0.2
MIN_BYTES_PER_STALL = 4096  # fewer bytes than this in `stall_s` count as a dead connection


async def fetch(
    request: FetchRequest, *, limits: FetchLimits | None = None, listener: FetchListener | None = None
) -> None:
    """Download a file unless it exists, resuming an interrupted download.

    Raises:
        LlmstackError: the file cannot be downloaded, or has the wrong size or checksum; the target does not
            exist then.
    """
    limits, listener = limits or FetchLimits(), listener or FetchListener()
    lock = request.lock or request.target.with_name(f"{request.target.name}.lock")
    async with _locked(lock, listener):
        if request.target.is_file() and request.size in {None, request.target.stat().st_size}:
            return
        timeout = httpx.Timeout(limits.connect_s, read=limits.stall_s)
        async with httpx.AsyncClient(timeout=timeout) as client:
            await _Fetch(request, limits, listener, client).run()


@contextlib.asynccontextmanager
async def _locked(lock: Path, listener: FetchListener) -> AsyncIterator[None]:
    """Hold the file's lock, waiting for another process that downloads the same file."""
    with contextlib.ExitStack() as stack:
        for attempt in itertools.count():
            try:
                stack.enter_context(exclusive_lock(lock, "download", wait_s=0))
                break
            except LockedError as error:
                if attempt == 1:  # the holder writes its name a moment after it takes the lock
                    listener.notify(f"waiting: {error.message}")
                await asyncio.sleep(LOCK_POLL_S)
        yield


@dataclass(slots=True)
class _Chunk:
    """A range to fetch; `start` advances as its bytes arrive."""

    start: int
    end: int


class _Fetch:
    """One download. Each round asks for the file's size and version, then fetches the missing ranges."""

    def __init__(
        self, request: FetchRequest, limits: FetchLimits, listener: FetchListener, client: httpx.AsyncClient
    ) -> None:
        self._request, self._limits, self._listener, self._client = request, limits, listener, client
        self._partial = PartialFile(request.target, size=request.size, sha256=request.sha256)
        self._resumed = bool(self._partial.ranges.ranges)
        self._chunks: deque[_Chunk] = deque()
        self._reported_bytes = 0
        self._backoff = Backoff(limits, request.name, listener.notify)

    async def run(self) -> None:
        """Download the file and rename it to its target."""
        try:
            await self._fetch_and_verify()
        finally:
            if self._partial.ranges.ranges and not self._request.target.is_file():
                self._partial.save()
            self._partial.close()

    async def _fetch_and_verify(self) -> None:
        """Fetch the file; if a resumed download has the wrong checksum, fetch it again from the start."""
        while True:
            # A complete file from an earlier run needs no server if a checksum can verify it.
            if not (self._partial.is_complete and self._request.sha256):
                await self._fetch_missing()
            if await self._has_expected_checksum():
                self._partial.finish(self._request.target)
                return
            self._partial.reset()
            if not self._resumed:
                raise LlmstackError(
                    f"{self._request.name}: the SHA-256 of the downloaded file is not {self._request.sha256}",
                    hint="the file was removed; try again later, or from another network",
                )
            self._resumed = False
            self._listener.notify("the resumed download has the wrong checksum: starting again")

    async def _fetch_missing(self) -> None:
        """Repeat rounds until the file is complete."""
        while True:
            try:
                await self._run_round()
            except FileChangedError as error:
                self._partial.reset()
                await self._backoff.wait_after(TransientError(str(error)))
            except TransientError as error:
                await self._backoff.wait_after(error)
            else:
                return

    async def _run_round(self) -> None:
        async with self._open(0, 0, if_range=None) as response:
            if response.status_code == HTTPStatus.OK:
                await self._fetch_whole(response)
                return
            is_empty = response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            size = 0 if is_empty else parse_content_range(response, start=0)[1]
            self._set_version(size=size, etag=response.headers.get("etag"))
        size, limits = self._partial.size or 0, self._limits
        share = max(MIN_CHUNK_BYTES, -(-size // limits.connections))  # so that every connection has work
        missing = self._partial.ranges.missing(size, min(limits.chunk_bytes, share))
        self._chunks = deque(_Chunk(start, end) for start, end in missing)
        self._report_progress()
        count = min(limits.connections, len(self._chunks))
        await _run_all([self._fetch_chunks() for _ in range(count)])
        if self._partial.size == 0:
            self._partial.write(0, b"")

    def _set_version(self, *, size: int, etag: str | None) -> None:
        """Record which version the server has, and drop the bytes of another one."""
        if self._request.size not in {None, size}:
            raise LlmstackError(
                f"{self._request.name}: expected {self._request.size} bytes, the server has {size}",
                hint="the file may have been replaced; try again later",
            )
        self._refuse_excess(size)
        partial = self._partial
        if partial.ranges.ranges and (partial.size != size or partial.etag != etag):
            self._listener.notify("the file has changed on the server: starting again")
            partial.reset()
        self._check_disk_space(size - partial.ranges.total_bytes)
        partial.set_version(size=size, etag=etag)

    def _refuse_excess(self, size: int) -> None:
        """Raise LlmstackError if a file is larger than expected: the server may send without end."""
        expected = self._request.size if self._request.size is not None else self._request.max_bytes
        if expected is not None and size > expected:
            raise LlmstackError(
                f"{self._request.name}: expected at most {expected} bytes, the server sends more",
                hint="the file may have been replaced; try again later",
            )

    def _check_disk_space(self, required: int) -> None:
        directory = self._request.target.parent
        directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
        if required > free:
            raise LlmstackError(
                f"{self._request.name} needs {required / 1e9:.1f} GB more,"
                f" and {directory} has {free / 1e9:.1f} GB free",
                hint="free some disk space, or set HF_HOME to a larger disk",
            )

    async def _fetch_chunks(self) -> None:
        """Fetch chunks over one connection until there are none left."""
        while self._chunks:
            chunk = self._chunks.popleft()
            try:
                await self._fetch_chunk(chunk)
            except TransientError as error:
                self._chunks.appendleft(chunk)
                await self._backoff.wait_after(error)

    async def _fetch_chunk(self, chunk: _Chunk) -> None:
        async with self._open(chunk.start, chunk.end - 1, if_range=self._partial.etag) as response:
            etag = response.headers.get("etag")
            if response.status_code != HTTPStatus.PARTIAL_CONTENT or etag != self._partial.etag:
                raise FileChangedError("the file changed on the server during the download: starting again")
            if parse_content_range(response, start=chunk.start)[1] != self._partial.size:
                raise FileChangedError("the file's size changed during the download: starting again")
            async for piece in self._body(response):
                data = piece[: chunk.end - chunk.start]
                self._partial.write(chunk.start, data)
                chunk.start += len(data)
                self._report_progress()
                if len(data) < len(piece):
                    break  # more than was requested; it might never end
        if chunk.start < chunk.end:
            raise TransientError(f"the connection was cut with {chunk.end - chunk.start} bytes missing")

    async def _fetch_whole(self, response: httpx.Response) -> None:
        """Read the whole file from a server that does not support ranges."""
        self._partial.reset()
        size = content_length(response)
        if size is not None:
            self._set_version(size=size, etag=None)
        position = 0
        async for piece in self._body(response):
            self._refuse_excess(position + len(piece))
            self._partial.write(position, piece)
            position += len(piece)
            self._report_progress()
        if size is None and self._request.size is None:
            self._partial.set_version(size=position, etag=None)  # the file ends with the stream
        if not self._partial.is_complete:
            raise TransientError(
                f"the connection was cut after {position} bytes, and the server does not support ranges"
            )

    @contextlib.asynccontextmanager
    async def _open(self, first: int, last: int, *, if_range: str | None) -> AsyncIterator[httpx.Response]:
        """Request a range, both ends inclusive; `if_range` is the ETag that the file must still have.

        Raises:
            TransientError: the connection failed, here or while the block reads the body.
            LlmstackError: the server refuses the file, or its redirects lead nowhere.
        """
        headers = {"Accept-Encoding": "identity", **self._request.headers, "Range": f"bytes={first}-{last}"}
        if if_range is not None and is_strong_etag(if_range):
            headers["If-Range"] = if_range
        try:
            async with follow_redirects(self._client, self._request.url, headers) as response:
                raise_for_status(response, self._request.name)
                yield response
        except httpx.TransportError as error:
            raise TransientError(describe_error(error, stall_s=self._limits.stall_s)) from error
        except (httpx.TooManyRedirects, httpx.InvalidURL) as error:
            raise LlmstackError(f"{self._request.name}: {error}") from error

    async def _body(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; raise TransientError if it arrives too slowly."""
        since, received = time.monotonic(), 0
        async for piece in response.aiter_raw():
            yield piece
            received += len(piece)
            if (now := time.monotonic()) - since > self._limits.stall_s:
                if received < MIN_BYTES_PER_STALL:
                    raise TransientError(f"received only {received} bytes in {self._limits.stall_s:g} s")
                since, received = now, 0

    def _report_progress(self) -> None:
        done_bytes = self._partial.ranges.total_bytes
        if done_bytes > self._reported_bytes:
            self._reported_bytes = done_bytes
            self._backoff.reset()
        self._listener.on_progress(self._reported_bytes, self._partial.size)

    async def _has_expected_checksum(self) -> bool:
        """Compare the SHA-256; without an expected one, return True."""
        if self._request.sha256 is None:
            return True
        self._listener.on_verify()
        digest = hashlib.sha256()
        with self._partial.path.open("rb") as file:
            # In blocks, so that Ctrl-C does not wait until a whole model is hashed.
            while block := await asyncio.to_thread(file.read, HASH_BLOCK_BYTES):
                await asyncio.to_thread(digest.update, block)
        return digest.hexdigest() == self._request.sha256.lower()


async def _run_all(coroutines: list[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines concurrently; the first failure cancels the others and is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

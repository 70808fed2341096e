"""Looking up files at the model hub: existence, size, date and GGUF header. Nothing is cached.

Whatever the hub answers, it takes a bounded time, and a bounded number of bytes for each file.
"""

from __future__ import annotations

import asyncio
import difflib
import io
import json
import re
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from llmstack.download.bounded import BodyTooLargeError, fetch_bounded
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.gguf_header import read_header_from
from llmstack.llama_cpp.weights import shards
from llmstack.units import KB, MB

if TYPE_CHECKING:
    from collections.abc import Collection

    from llmstack.hub.access import HubAccess
    from llmstack.llama_cpp.gguf_header import GgufHeader

TIMEOUT = httpx.Timeout(5.0, connect=3.0)  # until something arrives
HEADER_S = 15.0  # for one header: `HEADER_BYTES` at 35 KB/s
LOOK_UP_S = 60.0  # for all files
MAX_CONCURRENT = 4
MAX_REDIRECTS = 4
# Up to the vocabulary, a header takes 1 KB in Gemma 3 and SmolLM2; descriptions and arrays with an entry for
# each layer may make it longer.
BLOCK_BYTES = 256 * KB
HEADER_BYTES = 2 * BLOCK_BYTES
REPO_INFO_BYTES = 4 * MB  # about 100 bytes for each of its files
MAX_SUGGESTIONS = 2
MAX_CANDIDATES = 2000  # files whose names are compared; that takes about a second
MAX_NAME = 255  # characters
NOT_FOUND = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
ACCESS_DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_SIZE = re.compile(r"[0-9]{1,15}")  # up to a petabyte


@dataclass(frozen=True, slots=True)
class HubEntry:
    """What the hub has for one model, which may consist of several files.

    Attributes:
        page: the web page of its repository.
        size_bytes: of all its files; None if the hub does not have it.
        date: when the repository last changed, ISO 8601.
        etag: of its first file; the SHA-256 of a large one.
        header: its GGUF header, if the query asked for it and it could be read.
        problem: why it cannot be downloaded; None if it can. `hint` says what to do.
    """

    page: str
    size_bytes: int | None = None
    date: str | None = None
    etag: str | None = None
    header: GgufHeader | None = None
    problem: str | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class FileQuery:
    """A file to look up; `with_header` to read its GGUF header as well."""

    repo: str
    file: str
    with_header: bool = False


class HubUnreachableError(LlmstackError):
    """The hub did not answer."""


def look_up(queries: Collection[FileQuery], access: HubAccess) -> dict[FileQuery, HubEntry]:
    """Look up files at the hub, a few in parallel.

    Raises:
        HubUnreachableError: the hub did not answer one of the queries.
    """
    if not queries:
        return {}
    try:
        return asyncio.run(_look_up_all(queries, access))
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
        slow = f"not everything was answered within {LOOK_UP_S:g} s"
        reason = slow if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        raise HubUnreachableError(
            f"{access.endpoint} could not be reached: {reason}",
            hint="the figures for files and memory come from this machine only",
        ) from error


async def _look_up_all(queries: Collection[FileQuery], access: HubAccess) -> dict[FileQuery, HubEntry]:
    token = access.token()
    headers = {"user-agent": "llmstack", **({"authorization": f"Bearer {token}"} if token else {})}
    entries: dict[FileQuery, HubEntry] = {}
    remaining = iter(queries)

    async def work(hub: _HubClient) -> None:
        for query in remaining:
            entries[query] = await hub.look_up(query)

    async with (
        asyncio.timeout(LOOK_UP_S),
        httpx.AsyncClient(timeout=TIMEOUT, headers=headers) as client,
    ):
        hub = _HubClient(client, access)
        await asyncio.gather(*(work(hub) for _ in range(MAX_CONCURRENT)))
    return entries


class _HubClient:
    """Looks up files with one HTTP client."""

    def __init__(self, client: httpx.AsyncClient, access: HubAccess) -> None:
        self._client = client
        self._access = access

    async def look_up(self, query: FileQuery) -> HubEntry:
        names = [part.as_posix() for part in shards(Path(query.file))]
        responses = [await self._head(query.repo, name) for name in names]
        for name, response in zip(names, responses, strict=True):
            if response.status_code >= HTTPStatus.BAD_REQUEST:
                return await self._unavailable(query.repo, name, response)
        sizes = [_size(response) for response in responses]
        return HubEntry(
            page=self._access.repo_url(query.repo),
            size_bytes=sum(filter(None, sizes)) if all(sizes) else None,
            date=await self._date(query.repo),
            etag=_etag(responses[0]),
            header=await self._header(query, sizes[0]) if query.with_header and sizes[0] else None,
        )

    def _file_url(self, repo: str, name: str) -> str:
        return f"{self._access.endpoint}/{repo}/resolve/main/{name}"

    async def _head(self, repo: str, name: str) -> httpx.Response:
        """Request a file's headers.

        The hub's redirect to a storage host carries all metadata, and is not followed. A redirect within the
        hub means that the repository was renamed, and is followed.
        """
        url = httpx.URL(self._file_url(repo, name))
        for _ in range(MAX_REDIRECTS):
            response = await self._client.head(url)
            location = url.join(response.headers.get("location", ""))
            if not response.is_redirect or location.host != url.host or "x-linked-size" in response.headers:
                return response
            url = location
        return response

    async def _repo_info(self, repo: str) -> dict[str, Any]:
        """Return the hub's JSON description of a repository; empty if there is none."""
        url = f"{self._access.endpoint}/api/models/{repo}"
        try:
            response = await fetch_bounded(self._client, url, max_bytes=REPO_INFO_BYTES)
            info = json.loads(response.content) if response.is_success else {}
        except (BodyTooLargeError, ValueError, RecursionError):
            info = {}
        return info if isinstance(info, dict) else {}

    async def _date(self, repo: str) -> str | None:
        text = (await self._repo_info(repo)).get("lastModified")
        try:
            return datetime.fromisoformat(text).isoformat() if isinstance(text, str) else None
        except ValueError:
            return None

    async def _unavailable(self, repo: str, name: str, response: httpx.Response) -> HubEntry:
        """Return an entry with the reason why a file cannot be downloaded."""
        page = self._access.repo_url(repo)
        code, status = response.headers.get("x-error-code", ""), response.status_code
        if code == "GatedRepo":
            hint = f"ask for access at {page}, then set HF_TOKEN"
            return HubEntry(page, problem=f"{repo} is gated: access has to be granted", hint=hint)
        if code == "RepoNotFound" or (not code and status in ACCESS_DENIED):
            hint = f"look at {page}; a private one needs HF_TOKEN"
            return HubEntry(page, problem=f"the hub has no repository {repo}", hint=hint)
        if code == "EntryNotFound" or status in NOT_FOUND:
            files = await self._gguf_files(repo)
            if files is None:
                return HubEntry(page, problem=f"the hub has no repository {repo}", hint=f"look at {page}")
            suggestions = ", ".join(f"`{file}`" for file in _closest_names(name, files))
            hint = f"{f'there is {suggestions}; ' if suggestions else ''}all of them: {page}/tree/main"
            return HubEntry(page, problem=f"{repo} has no file {name}", hint=hint)
        return HubEntry(page, problem=f"the hub answers {status} for {repo}/{name}", hint=f"look at {page}")

    async def _gguf_files(self, repo: str) -> list[str] | None:
        """Return the GGUF files of a repository; None if there is no such repository."""
        siblings = (await self._repo_info(repo)).get("siblings")
        if not isinstance(siblings, list):
            return None
        names = [item.get("rfilename") for item in siblings if isinstance(item, dict)]
        return [name for name in names if isinstance(name, str) and name.endswith(".gguf")]

    async def _header(self, query: FileQuery, size: int) -> GgufHeader | None:
        """Read the header of the first file; None if that fails, which the download will report.

        It is read from the beginning of the file, of which more is fetched if the first block is not enough.
        """
        url = self._file_url(query.repo, shards(Path(query.file))[0].as_posix())
        content = b""
        try:
            async with asyncio.timeout(HEADER_S):
                while len(content) < min(size, HEADER_BYTES):
                    content += await self._fetch_block(url, len(content), size)
                    try:
                        return read_header_from(
                            io.BytesIO(content), size, query.file, stop_at_vocabulary=True
                        )
                    except LlmstackError:
                        pass  # damaged, or longer than what was fetched
        except (BodyTooLargeError, ValueError, TimeoutError, httpx.HTTPError):
            return None
        return None

    async def _fetch_block(self, url: str, first: int, size: int) -> bytes:
        """Return a block of a file.

        Raises:
            ValueError: the hub sends something else.
        """
        last = min(first + BLOCK_BYTES, size) - 1
        headers = {"range": f"bytes={first}-{last}"}
        response = await fetch_bounded(self._client, url, headers=headers, max_bytes=last + 1 - first)
        if response.status_code != HTTPStatus.PARTIAL_CONTENT or len(response.content) != last + 1 - first:
            raise ValueError(f"the hub answers {response.status_code} to a range")
        return response.content


def _closest_names(name: str, candidates: list[str]) -> list[str]:
    """Return the candidates most similar to a name, ignoring case."""
    short = [candidate for candidate in candidates if len(candidate) <= MAX_NAME]
    by_lower_case = {candidate.lower(): candidate for candidate in short[:MAX_CANDIDATES]}
    matches = difflib.get_close_matches(name[:MAX_NAME].lower(), by_lower_case, n=MAX_SUGGESTIONS)
    return [by_lower_case[match] for match in matches]


def _size(response: httpx.Response) -> int | None:
    text = response.headers.get("x-linked-size") or (
        response.headers.get("content-length", "") if not response.is_redirect else ""
    )
    return int(text) if _SIZE.fullmatch(text) else None


def _etag(response: httpx.Response) -> str | None:
    text = response.headers.get("x-linked-etag") or response.headers.get("etag") or ""
    return text.removeprefix("W/").strip('"') or None

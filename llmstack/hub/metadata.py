"""Looking up files at the model hub: existence, size, date and GGUF header. Nothing is cached."""

from __future__ import annotations

import difflib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import httpx

from llmstack.errors import LlmstackError
from llmstack.hub.range_file import RangeFile
from llmstack.llama_cpp.gguf_header import read_header_from
from llmstack.llama_cpp.weights import shards

if TYPE_CHECKING:
    from collections.abc import Collection

    from llmstack.hub.access import HubAccess
    from llmstack.llama_cpp.gguf_header import GgufHeader

TIMEOUT = httpx.Timeout(5.0, connect=3.0)
MAX_CONCURRENT = 4
MAX_REDIRECTS = 4
MAX_SUGGESTIONS = 2
NOT_FOUND = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
ACCESS_DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


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
    token = access.token()
    headers = {"user-agent": "llmstack", **({"authorization": f"Bearer {token}"} if token else {})}
    try:
        with (
            httpx.Client(timeout=TIMEOUT, headers=headers) as client,
            ThreadPoolExecutor(MAX_CONCURRENT) as pool,
        ):
            hub = _HubClient(client, access)
            return dict(zip(queries, pool.map(hub.look_up, queries), strict=True))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise HubUnreachableError(
            f"{access.endpoint} could not be reached: {reason}",
            hint="the figures for files and memory come from this machine only",
        ) from error


class _HubClient:
    """Looks up files with one HTTP client, from several threads."""

    def __init__(self, client: httpx.Client, access: HubAccess) -> None:
        self._client = client
        self._access = access

    def look_up(self, query: FileQuery) -> HubEntry:
        names = [part.as_posix() for part in shards(Path(query.file))]
        responses = [self._head(query.repo, name) for name in names]
        for name, response in zip(names, responses, strict=True):
            if response.status_code >= HTTPStatus.BAD_REQUEST:
                return self._unavailable(query.repo, name, response)
        sizes = [_size(response) for response in responses]
        return HubEntry(
            page=self._access.repo_url(query.repo),
            size_bytes=sum(filter(None, sizes)) if all(sizes) else None,
            date=self._date(query.repo),
            etag=_etag(responses[0]),
            header=self._header(query, sizes[0]) if query.with_header and sizes[0] else None,
        )

    def _file_url(self, repo: str, name: str) -> str:
        return f"{self._access.endpoint}/{repo}/resolve/main/{name}"

    def _head(self, repo: str, name: str) -> httpx.Response:
        """Request a file's headers.

        The hub's redirect to a storage host carries all metadata, and is not followed. A redirect within the
        hub means that the repository was renamed, and is followed.
        """
        url = httpx.URL(self._file_url(repo, name))
        for _ in range(MAX_REDIRECTS):
            response = self._client.head(url)
            location = url.join(response.headers.get("location", ""))
            if not response.is_redirect or location.host != url.host or "x-linked-size" in response.headers:
                return response
            url = location
        return response

    def _repo_info(self, repo: str) -> dict[str, Any]:
        """Return the hub's JSON description of a repository; empty if there is none."""
        response = self._client.get(f"{self._access.endpoint}/api/models/{repo}", follow_redirects=True)
        try:
            info = response.json() if response.is_success else {}
        except ValueError:
            info = {}
        return info if isinstance(info, dict) else {}

    def _date(self, repo: str) -> str | None:
        text = self._repo_info(repo).get("lastModified")
        try:
            return datetime.fromisoformat(text).isoformat() if isinstance(text, str) else None
        except ValueError:
            return None

    def _unavailable(self, repo: str, name: str, response: httpx.Response) -> HubEntry:
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
            files = self._gguf_files(repo)
            if files is None:
                return HubEntry(page, problem=f"the hub has no repository {repo}", hint=f"look at {page}")
            suggestions = ", ".join(f"`{file}`" for file in _closest_names(name, files))
            hint = f"{f'there is {suggestions}; ' if suggestions else ''}all of them: {page}/tree/main"
            return HubEntry(page, problem=f"{repo} has no file {name}", hint=hint)
        return HubEntry(page, problem=f"the hub answers {status} for {repo}/{name}", hint=f"look at {page}")

    def _gguf_files(self, repo: str) -> list[str] | None:
        """Return the GGUF files of a repository; None if there is no such repository."""
        siblings = self._repo_info(repo).get("siblings")
        if not isinstance(siblings, list):
            return None
        names = [item.get("rfilename") for item in siblings if isinstance(item, dict)]
        return [name for name in names if isinstance(name, str) and name.endswith(".gguf")]

    def _header(self, query: FileQuery, size: int) -> GgufHeader | None:
        """Read the header with range requests; None if that fails, which the download will report."""
        url = self._file_url(query.repo, shards(Path(query.file))[0].as_posix())

        def fetch(first: int, last: int) -> bytes:
            headers = {"range": f"bytes={first}-{last}", "accept-encoding": "identity"}
            with self._client.stream("GET", url, headers=headers, follow_redirects=True) as response:
                if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                    raise ValueError(f"the hub answers {response.status_code} to a range")
                return response.read()

        file = cast("BinaryIO", RangeFile(fetch, size))
        try:
            return read_header_from(file, size, query.file, stop_at_vocabulary=True)
        except (LlmstackError, httpx.HTTPError):
            return None


def _closest_names(name: str, candidates: list[str]) -> list[str]:
    """Return the candidates most similar to a name, ignoring case."""
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.lower(), by_lower_case, n=MAX_SUGGESTIONS)
    return [by_lower_case[match] for match in matches]


def _size(response: httpx.Response) -> int | None:
    text = response.headers.get("x-linked-size") or (
        response.headers.get("content-length", "") if not response.is_redirect else ""
    )
    return int(text) if text.isdecimal() else None


def _etag(response: httpx.Response) -> str | None:
    text = response.headers.get("x-linked-etag") or response.headers.get("etag") or ""
    return text.removeprefix("W/").strip('"') or None

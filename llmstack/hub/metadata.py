"""What the model hub says of a file: whether it is there, its size, its date, its header. Nothing is kept."""

from __future__ import annotations

import difflib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
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
AT_ONCE = 4
NOT_FOUND, REFUSED = {404, 410}, {401, 403}
SHOWN_FILES = 2


@dataclass(frozen=True, slots=True)
class HubAnswer:
    """What the hub says of one model's file, or files.

    Attributes:
        page: where a person reads about it.
        size_bytes: of all its parts; None where it is not there.
        date: when the repository last changed, ISO 8601.
        etag: of its first part: the SHA-256 of a large file.
        header: the model's shape, where it was asked for.
        problem: why it cannot be had; `hint` what to do.
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
    """A file to ask about; `shape` asks for its header too."""

    repo: str
    file: str
    shape: bool = False


class HubUnreachableError(LlmstackError):
    """The hub did not answer."""


def look_up(wanted: Collection[FileQuery], access: HubAccess) -> dict[FileQuery, HubAnswer]:
    """Ask the hub about files, a few at a time.

    Raises:
        HubUnreachableError: it did not answer; nothing is known then.
    """
    if not wanted:
        return {}
    token = access.token()
    headers = {"user-agent": "llmstack", **({"authorization": f"Bearer {token}"} if token else {})}
    try:
        with (
            httpx.Client(timeout=TIMEOUT, headers=headers) as client,
            ThreadPoolExecutor(AT_ONCE) as pool,
        ):
            hub = _Hub(client, access)
            return dict(zip(wanted, pool.map(hub.ask, wanted), strict=True))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise HubUnreachableError(
            f"{access.endpoint} could not be reached: {reason}",
            hint="files and memory below are as far as this machine knows them",
        ) from error


class _Hub:
    def __init__(self, client: httpx.Client, access: HubAccess) -> None:
        self._client = client
        self._endpoint = access.endpoint
        self._page = access.page

    def ask(self, wanted: FileQuery) -> HubAnswer:
        page = self._page(wanted.repo)
        names = [part.as_posix() for part in shards(Path(wanted.file))]
        answers = [self._head(wanted.repo, name) for name in names]
        for name, answer in zip(names, answers, strict=True):
            if answer.status_code >= httpx.codes.BAD_REQUEST:
                return self._absent(wanted.repo, name, answer, page)
        sizes = [_size(answer) for answer in answers]
        size = sum(filter(None, sizes)) if all(sizes) else None
        return HubAnswer(
            page=page,
            size_bytes=size,
            date=self._date(wanted.repo),
            etag=_etag(answers[0]),
            header=self._header(wanted, sizes[0]) if wanted.shape and sizes[0] else None,
        )

    def _url(self, repo: str, name: str) -> str:
        return f"{self._endpoint}/{repo}/resolve/main/{name}"

    def _head(self, repo: str, name: str) -> httpx.Response:
        """Ask for a file without it. The hub redirects to a storage host, and says all before that.

        A redirect inside the hub is a repository that was renamed.
        """
        url = httpx.URL(self._url(repo, name))
        for _ in range(4):
            answer = self._client.head(url)
            following = url.join(answer.headers.get("location", ""))
            if not answer.is_redirect or following.host != url.host or "x-linked-size" in answer.headers:
                return answer
            url = following
        return answer

    def _about(self, repo: str) -> dict[str, Any]:
        answer = self._client.get(f"{self._endpoint}/api/models/{repo}", follow_redirects=True)
        try:
            about = answer.json() if answer.is_success else {}
        except ValueError:
            about = {}
        return about if isinstance(about, dict) else {}

    def _date(self, repo: str) -> str | None:
        said = self._about(repo).get("lastModified")
        try:
            return datetime.fromisoformat(said).isoformat() if isinstance(said, str) else None
        except ValueError:
            return None

    def _absent(self, repo: str, name: str, answer: httpx.Response, page: str) -> HubAnswer:
        """Say why a file cannot be had: the wrong name, the wrong repository, or a closed door."""
        said, status = answer.headers.get("x-error-code", ""), answer.status_code
        if said == "GatedRepo":
            hint = f"ask for access at {page}, then set HF_TOKEN"
            return HubAnswer(page, problem=f"{repo} is gated: access has to be granted", hint=hint)
        if said == "RepoNotFound" or (not said and status in REFUSED):
            hint = f"look at {page}; a private one needs HF_TOKEN"
            return HubAnswer(page, problem=f"the hub has no repository {repo}", hint=hint)
        if said == "EntryNotFound" or status in NOT_FOUND:
            known = self._files(repo)
            if known is None:
                return HubAnswer(page, problem=f"the hub has no repository {repo}", hint=f"look at {page}")
            near = _alike(name, known)
            there = f"there is {', '.join(f'`{file}`' for file in near)}; " if near else ""
            hint = f"{there}all of them: {page}/tree/main"
            return HubAnswer(page, problem=f"{repo} has no file {name}", hint=hint)
        return HubAnswer(page, problem=f"the hub answers {status} for {repo}/{name}", hint=f"look at {page}")

    def _files(self, repo: str) -> list[str] | None:
        """Return the GGUF files of a repository, None where there is no such repository."""
        siblings = self._about(repo).get("siblings")
        if not isinstance(siblings, list):
            return None
        names = [each.get("rfilename") for each in siblings if isinstance(each, dict)]
        return [name for name in names if isinstance(name, str) and name.endswith(".gguf")]

    def _header(self, wanted: FileQuery, size: int) -> GgufHeader | None:
        """Read the header from afar; a file that is no GGUF shows when it is fetched."""
        url = self._url(wanted.repo, shards(Path(wanted.file))[0].as_posix())

        def fetch(first: int, last: int) -> bytes:
            asked = {"range": f"bytes={first}-{last}", "accept-encoding": "identity"}
            with self._client.stream("GET", url, headers=asked, follow_redirects=True) as answer:
                if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                    raise ValueError(f"the hub answers {answer.status_code} to a range")
                return answer.read()

        file = cast("BinaryIO", RangeFile(fetch, size))
        try:
            return read_header_from(file, size, wanted.file, brief=True)
        except (LlmstackError, httpx.HTTPError):
            return None


def _alike(name: str, known: list[str]) -> list[str]:
    """Return the names most like the one asked for, whatever their case."""
    by_case = {file.lower(): file for file in known}
    near = difflib.get_close_matches(name.lower(), by_case, n=SHOWN_FILES)
    return [by_case[file] for file in near]


def _size(answer: httpx.Response) -> int | None:
    text = answer.headers.get("x-linked-size") or (
        answer.headers.get("content-length", "") if not answer.is_redirect else ""
    )
    return int(text) if text.isdecimal() else None


def _etag(answer: httpx.Response) -> str | None:
    text = answer.headers.get("x-linked-etag") or answer.headers.get("etag") or ""
    return text.removeprefix("W/").strip('"') or None

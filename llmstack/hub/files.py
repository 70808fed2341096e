"""Downloading GGUF files of the model hub into the cache that huggingface_hub and other tools share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from llmstack.download.fetch import fetch
from llmstack.download.range_response import (
    DownloadRefusedError,
    TransientError,
    is_retryable,
)
from llmstack.download.request import FetchRequest
from llmstack.download.retry import Backoff, FetchLimits
from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.http_headers import parse_retry_after
from llmstack.hub.access import HubAccess
from llmstack.hub.metadata import ACCESS_DENIED, NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.download.request import FetchListener

METADATA_TIMEOUT_S = 15.0
METADATA_LIMITS = FetchLimits(tries=5)  # a few seconds, because a person is waiting
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SAFE_NAME = re.compile(r"[\w][\w.-]*")


@dataclass(frozen=True, slots=True)
class HubFile:
    """The hub's metadata of one file.

    Attributes:
        repo: `owner/name`.
        file: its path in the repository.
        commit: the commit of the revision that was looked up.
        etag: the name of its blob in the cache; for a large file its SHA-256.
        size: in bytes.
    """

    repo: str
    file: str
    commit: str
    etag: str
    size: int

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of its content; None for a small file, whose ETag is a git hash."""
        return self.etag if _SHA256.fullmatch(self.etag) else None


class Hub:
    """The model hub and its cache on this machine.

    Args:
        env: for the address, the token and the offline switch.
        cache: the hub's cache directory.
    """

    def __init__(self, env: Mapping[str, str], cache: Path) -> None:
        self.access = HubAccess.from_env(env)
        self.cache = cache

    async def find(
        self, repo: str, file: str, *, revision: str = "main", limits: FetchLimits = METADATA_LIMITS
    ) -> HubFile:
        """Return a file's metadata, with retries.

        Raises:
            LlmstackError: the hub is offline or does not have the file; the hint names the page to visit.
        """
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts:
            raise LlmstackError(f"{repo}: expected a file of the repository, got `{file}`")
        if self.access.offline:
            raise LlmstackError(
                f"{file} is not on disk, and HF_HUB_OFFLINE forbids downloading it",
                hint="unset HF_HUB_OFFLINE, or get the file another way and set `path` in models.ini",
            )
        backoff = Backoff(limits, f"{repo}/{file}", lambda _: None)
        while True:
            try:
                return await asyncio.to_thread(self._metadata, repo, file, revision)
            except TransientError as error:
                await backoff.wait_after(error)

    def _metadata(self, repo: str, file: str, revision: str) -> HubFile:
        # huggingface_hub wraps only error statuses; a failed connection is raised as httpx2's own error.
        import httpx2  # noqa: PLC0415
        from huggingface_hub import get_hf_file_metadata, hf_hub_url  # noqa: PLC0415
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

        try:
            metadata = get_hf_file_metadata(
                hf_hub_url(repo, file, revision=revision, endpoint=self.access.endpoint),
                token=self.access.token() or False,
                endpoint=self.access.endpoint,
                timeout=METADATA_TIMEOUT_S,
                library_name="llmstack",
            )
        except HfHubHTTPError as error:
            response = error.response
            if is_retryable(response.status_code):
                wait_s = parse_retry_after(response.headers.get("retry-after"))
                raise TransientError(f"the hub answered {response.status_code}", wait_s=wait_s) from error
            raise self._refusal(repo, file, response.status_code) from error
        except HFValidationError as error:
            raise LlmstackError(f"hf_repo: expected `owner/name`, got `{repo}`") from error
        except (httpx2.HTTPError, OSError) as error:
            raise TransientError(f"{self.access.endpoint} cannot be reached: {error}") from error
        etag, commit = metadata.etag or "", metadata.commit_hash or ""
        # Both become file names in the cache, so anything but a plain name is refused.
        size = metadata.size if metadata.size is not None else -1
        if size < 0 or not _SAFE_NAME.fullmatch(etag) or not _SAFE_NAME.fullmatch(commit):
            raise LlmstackError(
                f"{self.access.endpoint} does not answer like a model hub for {repo}/{file}",
                hint="check HF_ENDPOINT, and whether a proxy answers instead of the hub",
            )
        return HubFile(repo, file, commit, etag, size)

    def _refusal(self, repo: str, file: str, status: int) -> LlmstackError:
        """Return the error for an HTTP status with which the hub refuses a file."""
        page = self.access.repo_url(repo)
        if status in ACCESS_DENIED:
            token = "with the current token" if self.access.token() else "without a token"
            return LlmstackError(
                f"{repo}/{file}: the hub denies access {token} ({status}): gated, private or misspelt",
                hint=f"see {page}, accept its terms there, and set HF_TOKEN or run `hf auth login`",
            )
        if status in NOT_FOUND:
            return LlmstackError(
                f"{repo} has no file {file} ({status})",
                hint=f"see {page}/tree/main for its files; correct `hf_repo` or `hf_file` in models.ini",
            )
        return LlmstackError(
            f"{repo}/{file}: the hub answered {status or 'nothing'}",
            hint=f"run the same command again later; {page} shows whether the file exists",
        )

    async def download(
        self, file: HubFile, *, limits: FetchLimits | None = None, listener: FetchListener | None = None
    ) -> Path:
        """Download a file into the cache and return its path in the snapshot.

        Raises:
            LlmstackError: the download failed, or the content does not match the hub's metadata.
        """
        from huggingface_hub import hf_hub_url  # noqa: PLC0415

        folder = self._folder(file.repo)
        pointer = folder / "snapshots" / file.commit / file.file
        if pointer.is_file() and pointer.stat().st_size == file.size:
            return pointer
        token = self.access.token()
        blob = folder / "blobs" / file.etag
        request = FetchRequest(
            url=hf_hub_url(file.repo, file.file, revision=file.commit, endpoint=self.access.endpoint),
            target=blob,
            label=file.file,
            size=file.size,
            sha256=file.sha256,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            lock=self._lock(file),
        )
        try:
            await fetch(request, limits=limits, listener=listener)
        except DownloadRefusedError as error:
            raise self._refusal(file.repo, file.file, error.status) from error
        _link_blob(pointer, blob)
        return pointer

    def publish(self, files: list[HubFile]) -> None:
        """Point `main` in the cache to the commit of these files, once all parts of a model are complete."""
        for repo, commit in {(file.repo, file.commit) for file in files}:
            write_atomic(self._folder(repo) / "refs" / "main", commit)

    def _folder(self, repo: str) -> Path:
        from huggingface_hub.file_download import repo_folder_name  # noqa: PLC0415

        return self.cache / str(repo_folder_name(repo_id=repo, repo_type="model"))

    def _lock(self, file: HubFile) -> Path:
        """Return the lock file that huggingface_hub uses for the same blob."""
        return self.cache / ".locks" / self._folder(file.repo).name / f"{file.etag}.lock"


def _link_blob(pointer: Path, blob: Path) -> None:
    """Make a relative link from a snapshot to a blob, or move the blob there if links are not possible."""
    temporary = pointer.with_name(f".{pointer.name}.{os.getpid()}")
    try:
        pointer.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        try:
            temporary.symlink_to(os.path.relpath(blob, pointer.parent))
        except (OSError, NotImplementedError):  # Windows without the privilege, and some file systems
            blob.replace(pointer)
            return
        temporary.replace(pointer)
    except OSError as error:
        raise LlmstackError(f"cannot write {pointer}: {error.strerror or error}") from error

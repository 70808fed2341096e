"""GGUF files of the model hub, put where every program that shares its cache finds them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from llmstack.download.fetch import FetchRequest, fetch
from llmstack.download.range_response import DownloadRefusedError, TransientError, passing, retry_after
from llmstack.download.retry import FetchLimits, Patience
from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.hub.access import HubAccess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.download.fetch import Watcher

METADATA_S = 15.0
METADATA = FetchLimits(tries=5)  # some seconds: whoever asks is waiting
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(r"[\w][\w.-]*")
_CLOSED = {401, 403, 404, 410}


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file at the hub, as its metadata describes it.

    Attributes:
        commit: the revision it was looked up at.
        etag: the blob's name in the cache; for large files it is their SHA-256.
        size: in bytes.
    """

    repo: str
    file: str
    commit: str
    etag: str
    size: int

    @property
    def sha256(self) -> str | None:
        """What the content must hash to; None for a small file, which git names by another hash."""
        return self.etag if _SHA256.fullmatch(self.etag) else None


class Hub:
    """The model hub as this environment reaches it."""

    def __init__(self, env: Mapping[str, str], cache: Path) -> None:
        """Look at the environment; `cache` is the hub's cache directory."""
        self.access = HubAccess.from_env(env)
        self.cache = cache

    async def find(
        self, repo: str, file: str, *, revision: str = "main", limits: FetchLimits = METADATA
    ) -> HubFile:
        """Ask the hub for a file's metadata.

        Raises:
            LlmstackError: it cannot be had; the hint names the page to visit.
        """
        name = PurePosixPath(file)
        if name.is_absolute() or ".." in name.parts:
            raise LlmstackError(f"{repo}: expected a file of the repository, got `{file}`")
        if self.access.offline:
            raise LlmstackError(
                f"{file} is not on disk, and HF_HUB_OFFLINE forbids to fetch it",
                hint="unset HF_HUB_OFFLINE, or put the file there and name it with `path` in models.ini",
            )
        patience = Patience(limits, f"{repo}/{file}", lambda _: None)
        while True:
            try:
                return await asyncio.to_thread(self._metadata, repo, file, revision)
            except TransientError as failure:
                await patience.after(failure)

    def _metadata(self, repo: str, file: str, revision: str) -> HubFile:
        import httpx2  # noqa: PLC0415 - what huggingface_hub raises where no connection comes about
        from huggingface_hub import get_hf_file_metadata, hf_hub_url  # noqa: PLC0415
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

        try:
            found = get_hf_file_metadata(
                hf_hub_url(repo, file, revision=revision, endpoint=self.access.endpoint),
                token=self.access.token() or False,
                endpoint=self.access.endpoint,
                timeout=METADATA_S,
                library_name="llmstack",
            )
        except HfHubHTTPError as error:
            answer = error.response
            if passing(answer.status_code):
                wait_s = retry_after(answer.headers.get("retry-after"))
                raise TransientError(f"the hub answered {answer.status_code}", wait_s=wait_s) from error
            raise self._refused(repo, file, answer.status_code) from error
        except HFValidationError as error:
            raise LlmstackError(f"hf_repo: expected `owner/name`, got `{repo}`") from error
        except (httpx2.HTTPError, OSError) as error:
            raise TransientError(f"{self.access.endpoint} cannot be reached: {error}") from error
        etag, commit = found.etag or "", found.commit_hash or ""
        # Both become names in the cache.
        if found.size is None or not _PLAIN.fullmatch(etag) or not _PLAIN.fullmatch(commit):
            raise LlmstackError(
                f"{self.access.endpoint} does not answer like a model hub for {repo}/{file}",
                hint="check HF_ENDPOINT, and whether something between answers in the hub's place",
            )
        return HubFile(repo, file, commit, etag, found.size)

    def _refused(self, repo: str, file: str, status: int) -> LlmstackError:
        page = self.access.page(repo)
        if status in {401, 403}:
            known = "with the token there is" if self.access.token() else "without a token"
            return LlmstackError(
                f"{repo}/{file}: the hub does not give it out {known} ({status}): gated, private or misspelt",
                hint=f"see {page}, accept its terms there, and set HF_TOKEN or run `hf auth login`",
            )
        if status in _CLOSED:
            return LlmstackError(
                f"{repo} has no file {file} ({status})",
                hint=f"see {page}/tree/main for what it has; correct `hf_repo` or `hf_file` in models.ini",
            )
        return LlmstackError(
            f"{repo}/{file}: the hub answered {status or 'nothing'}",
            hint=f"run the same command again later; {page} shows whether it is there",
        )

    async def download(
        self, wanted: HubFile, *, limits: FetchLimits | None = None, watcher: Watcher | None = None
    ) -> Path:
        """Fetch a file into the cache and return its place in the snapshot.

        Raises:
            LlmstackError: it cannot be had, or is not what the hub said it is.
        """
        from huggingface_hub import hf_hub_url  # noqa: PLC0415

        folder = self._folder(wanted.repo)
        pointer = folder / "snapshots" / wanted.commit / wanted.file
        if pointer.is_file() and pointer.stat().st_size == wanted.size:
            return pointer
        token = self.access.token()
        blob = folder / "blobs" / wanted.etag
        try:
            await fetch(
                FetchRequest(
                    url=hf_hub_url(
                        wanted.repo, wanted.file, revision=wanted.commit, endpoint=self.access.endpoint
                    ),
                    target=blob,
                    label=wanted.file,
                    size=wanted.size,
                    sha256=wanted.sha256,
                    headers={"Authorization": f"Bearer {token}"} if token else {},
                    lock=self._lock(wanted),
                ),
                limits=limits,
                watcher=watcher,
            )
        except DownloadRefusedError as refused:
            raise self._refused(wanted.repo, wanted.file, refused.status) from refused
        _point(pointer, blob)
        return pointer

    def publish(self, files: list[HubFile]) -> None:
        """Let `main` mean the revision that these files came from, once all parts of a model are here."""
        for repo, commit in {(file.repo, file.commit) for file in files}:
            write_atomic(self._folder(repo) / "refs" / "main", commit)

    def _folder(self, repo: str) -> Path:
        from huggingface_hub.file_download import repo_folder_name  # noqa: PLC0415

        return self.cache / str(repo_folder_name(repo_id=repo, repo_type="model"))

    def _lock(self, wanted: HubFile) -> Path:
        """Return the lock file that huggingface_hub takes for the same blob."""
        return self.cache / ".locks" / self._folder(wanted.repo).name / f"{wanted.etag}.lock"


def _point(pointer: Path, blob: Path) -> None:
    """Name a blob in a snapshot: a relative link, or the file itself where links are not possible."""
    temporary = pointer.with_name(f".{pointer.name}.{os.getpid()}")
    try:
        pointer.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        try:
            temporary.symlink_to(os.path.relpath(blob, pointer.parent))
        except (OSError, NotImplementedError):  # Windows without the right to make links; some file systems
            blob.replace(pointer)
            return
        temporary.replace(pointer)
    except OSError as error:
        raise LlmstackError(f"cannot write {pointer}: {error.strerror or error}") from error

"""The llama-swap binary: the release for this machine, its checksum verified, put into place whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import re
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from llmstack.download.fetch import FetchRequest, fetch
from llmstack.download.range_response import DownloadRefusedError
from llmstack.errors import LlmstackError
from llmstack.files import exclusive, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmstack.download.fetch import Watcher
    from llmstack.download.retry import FetchLimits

RELEASES = "https://github.com/mostlygeek/llama-swap"
LARGEST = 500_000_000  # bytes; the binary has about 30 MB
ASK_S = 20.0
OTHER_WAY = "the built-in pool serves without it (`swapper = auto` or `builtin` in models.ini)"
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
ASSETS = {
    ("linux", "amd64"),
    ("linux", "arm64"),
    ("darwin", "amd64"),
    ("darwin", "arm64"),
    ("freebsd", "amd64"),
    ("windows", "amd64"),
}
_VERSION = re.compile(r"v?(\d+)")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_TAG = re.compile(r"/releases/tag/v(\d+)/?$")


@dataclass(frozen=True, slots=True)
class InstalledRelease:
    """The binary, and its version where it was noted; `fetched` now, or there before."""

    path: Path
    version: str | None
    fetched: bool


def binary(directory: Path) -> Path:
    """Return where the binary is, or would be."""
    return directory / ("llama-swap.exe" if sys.platform == "win32" else "llama-swap")


def installed(directory: Path) -> InstalledRelease | None:
    """Return what is installed."""
    path = binary(directory)
    if not path.is_file():
        return None
    try:
        version = str(json.loads(_note(directory).read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        version = None
    return InstalledRelease(path, version, fetched=False)


def asset(version: str, system: str, machine: str) -> str:
    """Return the archive's name for an OS and a CPU.

    Raises:
        LlmstackError: there is none.
    """
    arch = ARCHITECTURES.get(machine.lower(), machine.lower())
    if (system.lower(), arch) not in ASSETS:
        raise LlmstackError(f"llama-swap has no release for {system} on {machine}", hint=OTHER_WAY)
    suffix = "zip" if system.lower() == "windows" else "tar.gz"
    return f"llama-swap_{version}_{system.lower()}_{arch}.{suffix}"


class Releases:
    """Where releases are; `LLAMA_SWAP_RELEASES` names a mirror, `LLAMA_SWAP_VERSION` pins one."""

    def __init__(self, env: Mapping[str, str], *, limits: FetchLimits | None = None) -> None:
        self._url = (env.get("LLAMA_SWAP_RELEASES") or RELEASES).rstrip("/")
        self._pinned = env.get("LLAMA_SWAP_VERSION") or None
        self._limits = limits

    def install(
        self,
        directory: Path,
        *,
        force: bool = False,
        watcher: Watcher | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> InstalledRelease:
        """Install the pinned or the newest release; what is there stays unless `force`, or another is pinned.

        Raises:
            LlmstackError: there is none for this machine, it cannot be had, or it is not what it should be.
        """
        pinned = self._pin()
        with exclusive(directory / "llama-swap.lock", "install-llama-swap"):
            there = installed(directory)
            if there is not None and not force and pinned in {None, there.version}:
                return there
            asset("0", platform.system(), platform.machine())  # before anything is asked for
            return asyncio.run(self._install(directory, pinned, watcher, tell))

    def _pin(self) -> str | None:
        if self._pinned is None:
            return None
        found = _VERSION.fullmatch(self._pinned)
        if found is None:
            raise LlmstackError(
                f"LLAMA_SWAP_VERSION: expected a version like v250, got `{self._pinned}`",
                hint="unset it to take the newest release",
            )
        return found[1]

    async def _install(
        self, directory: Path, pinned: str | None, watcher: Watcher | None, tell: Callable[[str], None]
    ) -> InstalledRelease:
        async with httpx.AsyncClient(timeout=ASK_S) as client:
            version = pinned or await self._newest(client)
            name = asset(version, platform.system(), platform.machine())
            base = f"{self._url}/releases/download/v{version}"
            sha256 = await self._checksum(client, f"{base}/llama-swap_{version}_checksums.txt", name)
        tell(f"fetching llama-swap v{version}")
        archive = directory / name
        try:
            await fetch(
                FetchRequest(f"{base}/{name}", archive, sha256=sha256), limits=self._limits, watcher=watcher
            )
            content = _binary_of(archive, binary(directory).name)
            write_atomic(binary(directory), content, mode=0o755)
        except DownloadRefusedError as error:
            raise LlmstackError(error.message, hint=f"see {self._url}/releases; {OTHER_WAY}") from error
        finally:
            for left in (archive, archive.with_name(f"{name}.lock")):
                with contextlib.suppress(OSError):
                    left.unlink(missing_ok=True)
        write_atomic(_note(directory), json.dumps({"version": version, "sha256": sha256}) + "\n")
        return InstalledRelease(binary(directory), version, fetched=True)

    async def _newest(self, client: httpx.AsyncClient) -> str:
        """Return the newest version, from where `latest` redirects to: the API allows 60 calls an hour."""
        answer = await self._get(client, f"{self._url}/releases/latest", follow=False)
        found = _TAG.search(answer.headers.get("location", ""))
        if found is None:
            raise LlmstackError(
                f"{self._url}/releases/latest names no release ({answer.status_code})",
                hint=f"name one with LLAMA_SWAP_VERSION; {OTHER_WAY}",
            )
        return found[1]

    async def _checksum(self, client: httpx.AsyncClient, url: str, name: str) -> str:
        answer = await self._get(client, url, follow=True)
        for line in answer.text.splitlines() if answer.is_success else ():
            match line.split():
                case [digest, file] if file.lstrip("*") == name and _SHA256.fullmatch(digest):
                    return digest.lower()
        raise LlmstackError(
            f"{url} has no SHA-256 of {name} ({answer.status_code}): nothing was installed",
            hint=f"see {self._url}/releases, and name another with LLAMA_SWAP_VERSION; {OTHER_WAY}",
        )

    async def _get(self, client: httpx.AsyncClient, url: str, *, follow: bool) -> httpx.Response:
        try:
            return await client.get(url, follow_redirects=follow)
        except httpx.HTTPError as error:
            raise LlmstackError(
                f"{self._url} cannot be reached: {error or type(error).__name__}",
                hint=f"try again later; {OTHER_WAY}",
            ) from error


def _note(directory: Path) -> Path:
    return directory / "llama-swap.json"


def _binary_of(archive: Path, name: str) -> bytes:
    """Return the one file of an archive that is wanted; nothing else of it is ever written.

    Raises:
        LlmstackError: it is not a regular file at the top, or the archive is damaged.
    """
    try:
        content = _from_zip(archive, name) if archive.suffix == ".zip" else _from_tar(archive, name)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, NotImplementedError) as error:
        raise LlmstackError(f"{archive.name} cannot be read: {error}", hint=OTHER_WAY) from error
    if content is None:
        raise LlmstackError(f"{archive.name} holds no program called {name} at its top", hint=OTHER_WAY)
    return content


def _from_tar(archive: Path, name: str) -> bytes | None:
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.name.removeprefix("./") == name and member.isreg() and member.size <= LARGEST:
                file = tar.extractfile(member)
                return file.read() if file is not None else None
    return None


def _from_zip(archive: Path, name: str) -> bytes | None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            if member.filename == name and member.file_size <= LARGEST:
                return opened.read(member)
    return None

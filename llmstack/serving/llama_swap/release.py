"""Installing a llama-swap release: choose the asset for this machine, verify it, extract the program."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import platform
import re
import sys
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from llmstack.download.bounded import BodyTooLargeError, fetch_bounded
from llmstack.download.fetch import fetch
from llmstack.download.range_response import DownloadRefusedError
from llmstack.download.request import FetchRequest
from llmstack.errors import LlmstackError
from llmstack.files import exclusive_lock, write_atomic
from llmstack.units import MB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from llmstack.download.retry import FetchLimits

RELEASES = "https://github.com/mostlygeek/llama-swap"
MAX_ARCHIVE_BYTES = 128 * MB  # compressed and unpacked: about four times the size of the program
MAX_CHECKSUMS_BYTES = MB
REQUEST_TIMEOUT_S = 20.0  # until something arrives
LOOK_UP_S = 60.0  # for the version or the checksums
FALLBACK_HINT = "the built-in pool serves without it (`swapper = auto` or `builtin` in models.ini)"
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
    """An installed llama-swap.

    Attributes:
        path: the program.
        version: its version number; None if it was not recorded.
        is_new: True if it was installed by this call, False if it was there before.
    """

    path: Path
    version: str | None
    is_new: bool


def binary_path(directory: Path) -> Path:
    """Return the path of the program in a directory, whether it exists or not."""
    return directory / ("llama-swap.exe" if sys.platform == "win32" else "llama-swap")


def find_installed(directory: Path) -> InstalledRelease | None:
    """Return the llama-swap installed in a directory; None if there is none."""
    path = binary_path(directory)
    if not path.is_file():
        return None
    try:
        version = str(json.loads(_version_file(directory).read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        version = None
    return InstalledRelease(path, version, is_new=False)


def asset_name(version: str, system: str, machine: str) -> str:
    """Return the name of the release archive for an operating system and a CPU.

    Raises:
        LlmstackError: there is no release for them.
    """
    arch = ARCHITECTURES.get(machine.lower(), machine.lower())
    if (system.lower(), arch) not in ASSETS:
        raise LlmstackError(f"llama-swap has no release for {system} on {machine}", hint=FALLBACK_HINT)
    suffix = "zip" if system.lower() == "windows" else "tar.gz"
    return f"llama-swap_{version}_{system.lower()}_{arch}.{suffix}"


class ReleaseInstaller:
    """Installs releases of llama-swap.

    Args:
        env: `LLAMA_SWAP_RELEASES` is the URL of a mirror, `LLAMA_SWAP_VERSION` pins a version.
        limits: for the download.
    """

    def __init__(self, env: Mapping[str, str], *, limits: FetchLimits | None = None) -> None:
        self._url = (env.get("LLAMA_SWAP_RELEASES") or RELEASES).rstrip("/")
        self._pin = env.get("LLAMA_SWAP_VERSION") or None
        self._limits = limits

    def install(
        self,
        directory: Path,
        *,
        force: bool = False,
        notify: Callable[[str], None] = lambda _: None,
    ) -> InstalledRelease:
        """Install the pinned or the latest release.

        Args:
            directory: for the program.
            force: replace an installed release of the same version.
            notify: receives a message before the download.

        Returns:
            The new release, or the installed one if there is one and neither `force` nor a pin replaces it.

        Raises:
            LlmstackError: there is no release for this machine, the download failed, or the checksum differs.
        """
        pinned = self._pinned_version()
        with exclusive_lock(directory / "llama-swap.lock", "install-llama-swap"):
            current = find_installed(directory)
            if current is not None and not force and pinned in {None, current.version}:
                return current
            asset_name("0", platform.system(), platform.machine())  # fails before any request is made
            return asyncio.run(self._install(directory, pinned, notify))

    def _pinned_version(self) -> str | None:
        if self._pin is None:
            return None
        match = _VERSION.fullmatch(self._pin)
        if match is None:
            raise LlmstackError(
                f"LLAMA_SWAP_VERSION: expected a version like v250, got `{self._pin}`",
                hint="unset it to install the latest release",
            )
        return match[1]

    async def _install(
        self, directory: Path, pinned: str | None, notify: Callable[[str], None]
    ) -> InstalledRelease:
        async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT_S) as client:
            version = pinned or await self._latest_version(client)
            name = asset_name(version, platform.system(), platform.machine())
            base = f"{self._url}/releases/download/v{version}"
            sha256 = await self._checksum(client, f"{base}/llama-swap_{version}_checksums.txt", name)
        notify(f"downloading llama-swap v{version}")
        archive, program = directory / name, binary_path(directory)
        try:
            request = FetchRequest(f"{base}/{name}", archive, sha256=sha256, max_bytes=MAX_ARCHIVE_BYTES)
            await fetch(request, limits=self._limits)
            write_atomic(program, _extract_binary(archive, program.name), mode=0o755)
        except DownloadRefusedError as error:
            raise LlmstackError(error.message, hint=f"see {self._url}/releases; {FALLBACK_HINT}") from error
        finally:
            for path in (archive, archive.with_name(f"{name}.lock")):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        write_atomic(_version_file(directory), json.dumps({"version": version, "sha256": sha256}) + "\n")
        return InstalledRelease(program, version, is_new=True)

    async def _latest_version(self, client: httpx.AsyncClient) -> str:
        """Return the version that `latest` redirects to; GitHub's API allows only 60 calls an hour."""
        async with self._reaching(), client.stream("GET", f"{self._url}/releases/latest") as response:
            pass  # its headers are enough
        match = _TAG.search(response.headers.get("location", ""))
        if match is None:
            raise LlmstackError(
                f"{self._url}/releases/latest names no release ({response.status_code})",
                hint=f"set LLAMA_SWAP_VERSION to a release; {FALLBACK_HINT}",
            )
        return match[1]

    async def _checksum(self, client: httpx.AsyncClient, url: str, name: str) -> str:
        """Return an asset's SHA-256 from the release's list of checksums."""
        async with self._reaching():
            response = await fetch_bounded(client, url, max_bytes=MAX_CHECKSUMS_BYTES)
        for line in response.text.splitlines() if response.is_success else ():
            match line.split():
                case [digest, file] if file.lstrip("*") == name and _SHA256.fullmatch(digest):
                    return digest.lower()
        raise LlmstackError(
            f"{url} has no SHA-256 of {name} ({response.status_code}): nothing was installed",
            hint=f"see {self._url}/releases, and set LLAMA_SWAP_VERSION to another release; {FALLBACK_HINT}",
        )

    @contextlib.asynccontextmanager
    async def _reaching(self) -> AsyncIterator[None]:
        """Run a request within `LOOK_UP_S`; raise LlmstackError if it fails."""
        try:
            async with asyncio.timeout(LOOK_UP_S):
                yield
        except BodyTooLargeError as error:
            raise LlmstackError(str(error), hint=f"see {self._url}/releases; {FALLBACK_HINT}") from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise LlmstackError(
                f"{self._url} cannot be reached: {str(error) or type(error).__name__}",
                hint=f"try again later; {FALLBACK_HINT}",
            ) from error


def _version_file(directory: Path) -> Path:
    return directory / "llama-swap.json"


def _extract_binary(archive: Path, name: str) -> bytes:
    """Return the content of one file at the top level of an archive; the others are never written to disk.

    Raises:
        LlmstackError: the archive has no such regular file, or is damaged.
    """
    try:
        content = _read_zip(archive, name) if archive.suffix == ".zip" else _read_tar(archive, name)
    except (
        OSError,
        EOFError,
        zlib.error,
        tarfile.TarError,
        zipfile.BadZipFile,
        NotImplementedError,
    ) as error:
        raise LlmstackError(f"{archive.name} cannot be read: {error}", hint=FALLBACK_HINT) from error
    if content is None:
        raise LlmstackError(
            f"{archive.name} has no program called {name} at its top level", hint=FALLBACK_HINT
        )
    return content


class _LimitedGzip(gzip.GzipFile):
    """Unpacks at most `MAX_ARCHIVE_BYTES`: a small file may contain terabytes."""

    _remaining = MAX_ARCHIVE_BYTES

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes.

        Raises:
            ReadError: there are too many.
        """
        data = super().read(size)
        self._remaining -= len(data)
        if self._remaining < 0:
            raise tarfile.ReadError(f"it unpacks to more than {MAX_ARCHIVE_BYTES // MB} MB")
        return data


def _read_tar(archive: Path, name: str) -> bytes | None:
    # As a stream, which is read in blocks of 10 KB.
    with _LimitedGzip(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.name.removeprefix("./") == name and member.isreg():
                file = tar.extractfile(member)
                return file.read() if file is not None else None
    return None


def _read_zip(archive: Path, name: str) -> bytes | None:
    with zipfile.ZipFile(archive) as zip_file:
        for member in zip_file.infolist():
            if member.filename == name and member.file_size <= MAX_ARCHIVE_BYTES:
                return zip_file.read(member)
    return None

"""Installing llama-swap: latest or pinned, verified, and only the program from the archive."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from support.net import free_port
from support.releases import PROGRAM, running_release_page, tar_gz

from llmstack.download.retry import FetchLimits
from llmstack.errors import LlmstackError
from llmstack.serving.llama_swap import release
from llmstack.serving.llama_swap.release import ReleaseInstaller, asset_name, find_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.releases import ReleasePage

    from llmstack.serving.llama_swap.release import InstalledRelease


@pytest.fixture
def page() -> Iterator[ReleasePage]:
    with running_release_page() as page:
        yield page


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    return tmp_path / "bin"


def install(page: ReleasePage, bin_dir: Path, *, force: bool = False, **env: str) -> InstalledRelease:
    limits = FetchLimits(tries=2, backoff_s=0.01, stall_s=1)
    installer = ReleaseInstaller({"LLAMA_SWAP_RELEASES": page.url, **env}, limits=limits)
    return installer.install(bin_dir, force=force)


def files_in(bin_dir: Path) -> set[str]:
    return {path.name for path in bin_dir.rglob("*")} - {"llama-swap.lock"}


def test_the_latest_release_is_found_by_its_redirect_and_installed_once(
    page: ReleasePage, bin_dir: Path
) -> None:
    release = install(page, bin_dir)
    assert (release.version, release.is_new) == ("251", True)
    assert release.path.read_bytes() == PROGRAM + b"#"
    assert release.path.stat().st_mode & 0o777 == 0o755
    assert files_in(bin_dir) == {"llama-swap", "llama-swap.json"}
    assert "api" not in "".join(page.requests)
    count = len(page.requests)
    again = install(page, bin_dir)
    assert (again.version, again.is_new, len(page.requests)) == ("251", False, count)


@pytest.mark.parametrize("pin", ["250", "v250"])
def test_a_pinned_version_replaces_another_one(page: ReleasePage, bin_dir: Path, pin: str) -> None:
    install(page, bin_dir)
    assert install(page, bin_dir, LLAMA_SWAP_VERSION=pin).path.read_bytes() == PROGRAM
    assert not install(page, bin_dir, LLAMA_SWAP_VERSION=pin).is_new
    assert install(page, bin_dir, force=True).version == "251"


def test_a_wrong_checksum_installs_nothing(page: ReleasePage, bin_dir: Path) -> None:
    page.checksum = "0" * 64
    with pytest.raises(LlmstackError, match="the SHA-256 of the downloaded file is not 0000"):
        install(page, bin_dir)
    assert files_in(bin_dir) == set()


def test_a_missing_checksum_installs_nothing(page: ReleasePage, bin_dir: Path) -> None:
    page.checksum = "none"
    with pytest.raises(LlmstackError, match="has no SHA-256 of llama-swap_251_"):
        install(page, bin_dir)
    assert files_in(bin_dir) == set()


@pytest.mark.parametrize("path", ["_checksums.txt", ".tar.gz"])
def test_an_answer_that_is_too_large_installs_nothing(
    page: ReleasePage, bin_dir: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(release, "MAX_ARCHIVE_BYTES", 2_000_000)
    page.archives["251"] = bytes(3_000_000)
    page.padding = bytes(3_000_000) if path == "_checksums.txt" else b""
    with pytest.raises(LlmstackError, match=f"{path}( sends more than|: expected at most)"):
        install(page, bin_dir)
    assert files_in(bin_dir) == set()


def bomb(kind: bytes) -> bytes:
    """Return an archive of 300 KB whose first member has 320 MB; the program follows."""
    member = tarfile.TarInfo("filler")
    member.type, member.size = kind, 20 * 16 * 1024 * 1024
    zeros = gzip.compress(bytes(16 * 1024 * 1024))
    return gzip.compress(member.tobuf()) + zeros * 20 + tar_gz(("llama-swap", PROGRAM))


EVIL = {
    "a way out": tar_gz(("../../llama-swap", b"evil"), ("../llama-swap", b"evil")),
    "an absolute name": tar_gz(("/tmp/llama-swap", b"evil")),  # noqa: S108
    "a link": tar_gz(("llama-swap", "/bin/sh")),
    "something else": tar_gz(("README.md", b"hello")),
    "no archive": b"<html>please log in</html>",
    "a large file": bomb(tarfile.REGTYPE),
    "a large header": bomb(tarfile.XHDTYPE),
    "a cut archive": tar_gz(("llama-swap", PROGRAM * 999))[:80],
}


@pytest.mark.parametrize("archive", EVIL.values(), ids=EVIL)
def test_an_evil_archive_writes_nothing(page: ReleasePage, bin_dir: Path, archive: bytes) -> None:
    install(page, bin_dir, LLAMA_SWAP_VERSION="250")
    page.archives["251"] = archive
    with pytest.raises(LlmstackError, match=r"has no program called llama-swap|cannot be read"):
        install(page, bin_dir, force=True)
    assert files_in(bin_dir) == {"llama-swap", "llama-swap.json"}
    current = find_installed(bin_dir)
    assert current is not None
    assert (current.version, current.path.read_bytes()) == ("250", PROGRAM)
    assert {path.name for path in bin_dir.parent.iterdir()} == {"bin"}


def test_only_the_program_is_extracted(page: ReleasePage, bin_dir: Path) -> None:
    page.archives["251"] = tar_gz(("../evil", b"evil"), ("README.md", b"hello"), ("llama-swap", PROGRAM))
    install(page, bin_dir)
    assert files_in(bin_dir) == {"llama-swap", "llama-swap.json"}


def test_each_machine_has_its_asset_or_an_error() -> None:
    assert asset_name("250", "Linux", "x86_64") == "llama-swap_250_linux_amd64.tar.gz"
    assert asset_name("250", "Darwin", "arm64") == "llama-swap_250_darwin_arm64.tar.gz"
    assert asset_name("250", "Windows", "AMD64") == "llama-swap_250_windows_amd64.zip"
    for system, machine in [
        ("Windows", "ARM64"),
        ("FreeBSD", "arm64"),
        ("Linux", "riscv64"),
        ("SunOS", "i86pc"),
    ]:
        with pytest.raises(LlmstackError) as error:
            asset_name("250", system, machine)
        assert str(error.value) == f"llama-swap has no release for {system} on {machine}"
        assert "the built-in pool serves without it" in str(error.value.hint)


def test_the_program_is_extracted_from_a_zip_archive(bin_dir: Path) -> None:
    from llmstack.serving.llama_swap.release import _extract_binary  # noqa: PLC0415 - only Windows installs a zip

    bin_dir.mkdir()
    archive = bin_dir / "a.zip"
    with zipfile.ZipFile(archive, "w") as zip_file:
        zip_file.writestr("../llama-swap.exe", b"evil")
        zip_file.writestr("llama-swap.exe", PROGRAM)
    assert _extract_binary(archive, "llama-swap.exe") == PROGRAM


def test_a_wrong_version_or_an_unreachable_server_is_a_clear_error(page: ReleasePage, bin_dir: Path) -> None:
    with pytest.raises(LlmstackError, match="LLAMA_SWAP_VERSION: expected a version like v250, got `new`"):
        install(page, bin_dir, LLAMA_SWAP_VERSION="new")
    with pytest.raises(LlmstackError, match=r"v7/llama-swap_7_checksums.txt has no SHA-256 of .* \(404\)"):
        install(page, bin_dir, LLAMA_SWAP_VERSION="v7")
    page.port = free_port()
    with pytest.raises(LlmstackError, match="cannot be reached") as error:
        install(page, bin_dir)
    assert "the built-in pool serves without it" in str(error.value.hint)

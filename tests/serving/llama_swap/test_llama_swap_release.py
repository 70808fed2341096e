"""The llama-swap release: newest or pinned, verified, and only the program out of its archive."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest
from support.net import free_port
from support.releases import PROGRAM, running_releases, tar_gz

from llmstack.download.retry import FetchLimits
from llmstack.errors import LlmstackError
from llmstack.serving.llama_swap.release import Releases, asset, installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.releases import Releases as Page

    from llmstack.serving.llama_swap.release import InstalledRelease


@pytest.fixture
def page() -> Iterator[Page]:
    with running_releases() as releases:
        yield releases


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    return tmp_path / "bin"


def install(page: Page, bin_dir: Path, *, force: bool = False, **env: str) -> InstalledRelease:
    limits = FetchLimits(tries=2, backoff_s=0.01, stall_s=1)
    return Releases({"LLAMA_SWAP_RELEASES": page.url, **env}, limits=limits).install(bin_dir, force=force)


def left(bin_dir: Path) -> set[str]:
    return {path.name for path in bin_dir.rglob("*")} - {"llama-swap.lock"}


def test_the_newest_is_taken_from_the_redirect_and_installed_once(page: Page, bin_dir: Path) -> None:
    done = install(page, bin_dir)
    assert (done.version, done.fetched) == ("251", True)
    assert done.path.read_bytes() == PROGRAM + b"#"
    assert done.path.stat().st_mode & 0o777 == 0o755
    assert left(bin_dir) == {"llama-swap", "llama-swap.json"}
    assert "api" not in "".join(page.asked)
    asked = len(page.asked)
    again = install(page, bin_dir)
    assert (again.version, again.fetched, len(page.asked)) == ("251", False, asked)


@pytest.mark.parametrize("pin", ["250", "v250"])
def test_a_pinned_version_replaces_another_one(page: Page, bin_dir: Path, pin: str) -> None:
    install(page, bin_dir)
    assert install(page, bin_dir, LLAMA_SWAP_VERSION=pin).path.read_bytes() == PROGRAM
    assert not install(page, bin_dir, LLAMA_SWAP_VERSION=pin).fetched
    assert install(page, bin_dir, force=True).version == "251"


def test_a_wrong_checksum_installs_nothing(page: Page, bin_dir: Path) -> None:
    page.checksum = "0" * 64
    with pytest.raises(LlmstackError, match="the SHA-256 of what was fetched is not 0000"):
        install(page, bin_dir)
    assert left(bin_dir) == set()


def test_without_a_checksum_nothing_is_installed(page: Page, bin_dir: Path) -> None:
    page.checksum = "none"
    with pytest.raises(LlmstackError, match="has no SHA-256 of llama-swap_251_"):
        install(page, bin_dir)
    assert left(bin_dir) == set()


EVIL = {
    "a way out": tar_gz(("../../llama-swap", b"evil"), ("../llama-swap", b"evil")),
    "an absolute name": tar_gz(("/tmp/llama-swap", b"evil")),  # noqa: S108
    "a link": tar_gz(("llama-swap", "/bin/sh")),
    "something else": tar_gz(("README.md", b"hello")),
    "no archive": b"<html>please log in</html>",
    "a cut archive": tar_gz(("llama-swap", PROGRAM * 999))[:80],
}


@pytest.mark.parametrize("archive", EVIL.values(), ids=EVIL)
def test_an_evil_archive_writes_nothing(page: Page, bin_dir: Path, archive: bytes) -> None:
    install(page, bin_dir, LLAMA_SWAP_VERSION="250")
    page.archives["251"] = archive
    with pytest.raises(LlmstackError, match=r"holds no program called llama-swap|cannot be read"):
        install(page, bin_dir, force=True)
    assert left(bin_dir) == {"llama-swap", "llama-swap.json"}
    there = installed(bin_dir)
    assert there is not None
    assert (there.version, there.path.read_bytes()) == ("250", PROGRAM)
    assert {path.name for path in bin_dir.parent.iterdir()} == {"bin"}


def test_only_the_program_comes_out(page: Page, bin_dir: Path) -> None:
    page.archives["251"] = tar_gz(("../evil", b"evil"), ("README.md", b"hello"), ("llama-swap", PROGRAM))
    install(page, bin_dir)
    assert left(bin_dir) == {"llama-swap", "llama-swap.json"}


def test_the_asset_for_each_machine() -> None:
    assert asset("250", "Linux", "x86_64") == "llama-swap_250_linux_amd64.tar.gz"
    assert asset("250", "Darwin", "arm64") == "llama-swap_250_darwin_arm64.tar.gz"
    assert asset("250", "Windows", "AMD64") == "llama-swap_250_windows_amd64.zip"
    for system, machine in [
        ("Windows", "ARM64"),
        ("FreeBSD", "arm64"),
        ("Linux", "riscv64"),
        ("SunOS", "i86pc"),
    ]:
        with pytest.raises(LlmstackError) as refused:
            asset("250", system, machine)
        assert str(refused.value) == f"llama-swap has no release for {system} on {machine}"
        assert "the built-in pool serves without it" in str(refused.value.hint)


def test_a_zip_as_on_windows(bin_dir: Path) -> None:
    from llmstack.serving.llama_swap.release import _binary_of  # noqa: PLC0415 - no Windows here

    bin_dir.mkdir()
    archive = bin_dir / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("../llama-swap.exe", b"evil")
        opened.writestr("llama-swap.exe", PROGRAM)
    assert _binary_of(archive, "llama-swap.exe") == PROGRAM


def test_what_is_wrong_with_the_place_or_the_version_is_said(page: Page, bin_dir: Path) -> None:
    with pytest.raises(LlmstackError, match="LLAMA_SWAP_VERSION: expected a version like v250, got `new`"):
        install(page, bin_dir, LLAMA_SWAP_VERSION="new")
    with pytest.raises(LlmstackError, match=r"v7/llama-swap_7_checksums.txt has no SHA-256 of .* \(404\)"):
        install(page, bin_dir, LLAMA_SWAP_VERSION="v7")
    page.port = free_port()
    with pytest.raises(LlmstackError, match="cannot be reached") as error:
        install(page, bin_dir)
    assert "the built-in pool serves without it" in str(error.value.hint)

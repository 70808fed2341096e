"""GGUFs of the hub: found, fetched, and in the cache where huggingface_hub itself finds them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import try_to_load_from_cache
from support.hub import COMMIT, Fault
from support.net import free_port

from llmstack.download.retry import FetchLimits
from llmstack.errors import LlmstackError
from llmstack.hub.files import Hub

if TYPE_CHECKING:
    from pathlib import Path

    from support.hub import Hub as Server

CONTENT = os.urandom(300_000)
QUICK = FetchLimits(chunk_bytes=100_000, stall_s=0.5, tries=4, backoff_s=0.01)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


async def download(hub: Hub, *files: str) -> list[Path]:
    found = [await hub.find("org/name", file) for file in files]
    paths = [await hub.download(file, limits=QUICK) for file in found]
    hub.publish(found)
    return paths


def hub_at(hub_server: Server, cache: Path, **env: str) -> Hub:
    return Hub({"HF_ENDPOINT": hub_server.url, **env}, cache)


@pytest.mark.parametrize("file", ["m.gguf", "UD-Q4/deep er/m.gguf"])
def test_huggingface_hub_finds_what_was_fetched(hub_server: Server, cache: Path, file: str) -> None:
    hub_server.files[f"org/name/{file}"] = CONTENT
    (path,) = asyncio.run(download(hub_at(hub_server, cache), file))
    assert try_to_load_from_cache("org/name", file, cache_dir=cache) == str(path)
    assert path.read_bytes() == CONTENT
    folder = cache / "models--org--name"
    assert path == folder / "snapshots" / COMMIT / file
    assert path.resolve() == folder / "blobs" / hashlib.sha256(CONTENT).hexdigest()
    assert not os.path.isabs(os.readlink(path))  # noqa: PTH115, PTH117 - the text of the link
    assert (folder / "refs" / "main").read_text() == COMMIT
    assert [entry.name for entry in (folder / "blobs").iterdir()] == [path.resolve().name]


def test_what_is_in_the_cache_is_not_fetched_again(hub_server: Server, cache: Path) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub = hub_at(hub_server, cache)
    asyncio.run(download(hub, "m.gguf"))
    sent = hub_server.sent
    asyncio.run(download(hub, "m.gguf"))
    assert hub_server.sent == sent


def test_the_token_goes_to_the_hub_and_nowhere_else(hub_server: Server, cache: Path) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.gated, hub_server.token = True, "hf_secret"
    asyncio.run(download(hub_at(hub_server, cache, HF_TOKEN="hf_secret"), "m.gguf"))
    assert {headers.get("authorization") for headers in hub_server.requests("hub")} == {"Bearer hf_secret"}
    assert {headers.get("authorization") for headers in hub_server.requests("cdn")} == {None}


def test_the_token_that_was_stored_is_used(
    hub_server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.gated, hub_server.token = True, "hf_stored"
    (tmp_path / "token").write_text("hf_stored\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    asyncio.run(download(hub_at(hub_server, cache), "m.gguf"))
    assert len(list((cache / "models--org--name" / "blobs").iterdir())) == 1


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_other", 403)])
def test_a_gated_file_names_the_page_to_visit(
    hub_server: Server, cache: Path, token: str | None, status: int
) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.gated, hub_server.token = True, token
    hub = hub_at(hub_server, cache, **({"HF_TOKEN": "hf_wrong"} if token else {}))
    with pytest.raises(LlmstackError) as error:
        asyncio.run(download(hub, "m.gguf"))
    how = "with the token there is" if token else "without a token"
    assert str(error.value) == (
        f"org/name/m.gguf: the hub does not give it out {how} ({status}): gated, private or misspelt"
    )
    assert f"see {hub_server.url}/org/name, accept its terms there" in str(error.value.hint)


def test_a_missing_file_names_the_page_to_visit(hub_server: Server, cache: Path) -> None:
    with pytest.raises(LlmstackError) as error:
        asyncio.run(download(hub_at(hub_server, cache), "m.gguf"))
    assert str(error.value) == "org/name has no file m.gguf (404)"
    assert f"see {hub_server.url}/org/name/tree/main" in str(error.value.hint)


def test_a_hub_that_is_busy_is_asked_again(hub_server: Server, cache: Path) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.busy = 3
    assert asyncio.run(hub_at(hub_server, cache).find("org/name", "m.gguf", limits=QUICK)).size == len(
        CONTENT
    )
    hub_server.busy = 100
    with pytest.raises(LlmstackError, match=r"org/name/m.gguf: the hub answered 429 \(4 tries\)"):
        asyncio.run(hub_at(hub_server, cache).find("org/name", "m.gguf", limits=QUICK))


def test_a_hub_that_is_not_there(cache: Path) -> None:
    hub = Hub({"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}, cache)
    with pytest.raises(LlmstackError, match="cannot be reached: "):
        asyncio.run(hub.find("org/name", "m.gguf", limits=QUICK))


def test_offline_nothing_is_asked(hub_server: Server, cache: Path) -> None:
    with pytest.raises(LlmstackError, match="HF_HUB_OFFLINE forbids"):
        asyncio.run(hub_at(hub_server, cache, HF_HUB_OFFLINE="1").find("org/name", "m.gguf"))
    assert not hub_server.asked


@pytest.mark.parametrize("file", ["../m.gguf", "/etc/m.gguf", "a/../../m.gguf"])
def test_a_file_outside_its_repository_is_refused(hub_server: Server, cache: Path, file: str) -> None:
    with pytest.raises(LlmstackError, match="expected a file of the repository"):
        asyncio.run(hub_at(hub_server, cache).find("org/name", file))
    assert not hub_server.asked


def test_wrong_bytes_leave_nothing_in_the_cache(hub_server: Server, cache: Path) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.wrong = True
    with pytest.raises(LlmstackError, match=r"m.gguf: the SHA-256 of what was fetched is not "):
        asyncio.run(download(hub_at(hub_server, cache), "m.gguf"))
    assert try_to_load_from_cache("org/name", "m.gguf", cache_dir=cache) is None
    assert not [path for path in (cache / "models--org--name").rglob("*") if path.is_file()]


def test_every_range_asks_the_hub_for_a_fresh_address(hub_server: Server, cache: Path) -> None:
    """The signed address it redirects to gets old while a large file comes."""
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.faults.append(Fault(status=503))
    asyncio.run(download(hub_at(hub_server, cache), "m.gguf"))
    assert len(hub_server.requests("hub")) == len(hub_server.requests("cdn")) == 5


def test_no_links_no_problem(hub_server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where links cannot be made the file itself is put into the snapshot, as huggingface_hub does."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no privilege")

    monkeypatch.setattr("os.symlink", refuse)
    hub_server.files["org/name/m.gguf"] = CONTENT
    (path,) = asyncio.run(download(hub_at(hub_server, cache), "m.gguf"))
    assert path.read_bytes() == CONTENT
    assert not path.is_symlink()
    sent = hub_server.sent
    asyncio.run(download(hub_at(hub_server, cache), "m.gguf"))
    assert hub_server.sent == sent

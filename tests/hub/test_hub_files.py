"""Downloads from the hub: metadata, content, and a cache that huggingface_hub itself can read."""

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

    from support.hub import FakeHub

CONTENT = os.urandom(300_000)
QUICK = FetchLimits(chunk_bytes=100_000, stall_s=0.5, tries=4, backoff_s=0.01)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


async def download(hub: Hub, *files: str) -> list[Path]:
    files_at_hub = [await hub.find("org/name", file) for file in files]
    paths = [await hub.download(file, limits=QUICK) for file in files_at_hub]
    hub.publish(files_at_hub)
    return paths


def connect(hub_server: FakeHub, cache: Path, **env: str) -> Hub:
    return Hub({"HF_ENDPOINT": hub_server.url, **env}, cache)


@pytest.mark.parametrize("file", ["m.gguf", "UD-Q4/deep er/m.gguf"])
def test_huggingface_hub_finds_a_downloaded_file(hub_server: FakeHub, cache: Path, file: str) -> None:
    hub_server.files[f"org/name/{file}"] = CONTENT
    (path,) = asyncio.run(download(connect(hub_server, cache), file))
    assert try_to_load_from_cache("org/name", file, cache_dir=cache) == str(path)
    assert path.read_bytes() == CONTENT
    folder = cache / "models--org--name"
    assert path == folder / "snapshots" / COMMIT / file
    assert path.resolve() == folder / "blobs" / hashlib.sha256(CONTENT).hexdigest()
    assert not os.path.isabs(os.readlink(path))  # noqa: PTH115, PTH117 - the text of the link
    assert (folder / "refs" / "main").read_text() == COMMIT
    assert [entry.name for entry in (folder / "blobs").iterdir()] == [path.resolve().name]


def test_a_cached_file_is_not_downloaded_again(hub_server: FakeHub, cache: Path) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub = connect(hub_server, cache)
    asyncio.run(download(hub, "m.gguf"))
    sent = hub_server.sent_bytes
    asyncio.run(download(hub, "m.gguf"))
    assert hub_server.sent_bytes == sent


def test_the_token_is_sent_to_the_hub_only(hub_server: FakeHub, cache: Path) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.gated, hub_server.token = True, "hf_secret"
    asyncio.run(download(connect(hub_server, cache, HF_TOKEN="hf_secret"), "m.gguf"))
    assert {headers.get("authorization") for headers in hub_server.request_headers("hub")} == {
        "Bearer hf_secret"
    }
    assert {headers.get("authorization") for headers in hub_server.request_headers("cdn")} == {None}


def test_a_stored_token_is_used(
    hub_server: FakeHub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.gated, hub_server.token = True, "hf_stored"
    (tmp_path / "token").write_text("hf_stored\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    asyncio.run(download(connect(hub_server, cache), "m.gguf"))
    assert len(list((cache / "models--org--name" / "blobs").iterdir())) == 1


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_other", 403)])
def test_a_gated_file_names_the_page_to_visit(
    hub_server: FakeHub, cache: Path, token: str | None, status: int
) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.gated, hub_server.token = True, token
    hub = connect(hub_server, cache, **({"HF_TOKEN": "hf_wrong"} if token else {}))
    with pytest.raises(LlmstackError) as error:
        asyncio.run(download(hub, "m.gguf"))
    how = "with the current token" if token else "without a token"
    assert str(error.value) == (
        f"org/name/m.gguf: the hub denies access {how} ({status}): gated, private or misspelt"
    )
    assert f"see {hub_server.url}/org/name, accept its terms there" in str(error.value.hint)


def test_a_missing_file_names_the_page_to_visit(hub_server: FakeHub, cache: Path) -> None:
    with pytest.raises(LlmstackError) as error:
        asyncio.run(download(connect(hub_server, cache), "m.gguf"))
    assert str(error.value) == "org/name has no file m.gguf (404)"
    assert f"see {hub_server.url}/org/name/tree/main" in str(error.value.hint)


def test_a_busy_hub_is_asked_again(hub_server: FakeHub, cache: Path) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.busy_responses = 3
    assert asyncio.run(connect(hub_server, cache).find("org/name", "m.gguf", limits=QUICK)).size == len(
        CONTENT
    )
    hub_server.busy_responses = 100
    with pytest.raises(LlmstackError, match=r"org/name/m.gguf: the hub answered 429 \(4 tries\)"):
        asyncio.run(connect(hub_server, cache).find("org/name", "m.gguf", limits=QUICK))


def test_an_unreachable_hub_is_an_error(cache: Path) -> None:
    hub = Hub({"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}, cache)
    with pytest.raises(LlmstackError, match="cannot be reached: "):
        asyncio.run(hub.find("org/name", "m.gguf", limits=QUICK))


def test_an_offline_hub_is_not_asked(hub_server: FakeHub, cache: Path) -> None:
    with pytest.raises(LlmstackError, match="HF_HUB_OFFLINE forbids"):
        asyncio.run(connect(hub_server, cache, HF_HUB_OFFLINE="1").find("org/name", "m.gguf"))
    assert not hub_server.request_log


@pytest.mark.parametrize("file", ["../m.gguf", "/etc/m.gguf", "a/../../m.gguf"])
def test_a_file_outside_its_repository_is_refused(hub_server: FakeHub, cache: Path, file: str) -> None:
    with pytest.raises(LlmstackError, match="expected a file of the repository"):
        asyncio.run(connect(hub_server, cache).find("org/name", file))
    assert not hub_server.request_log


def test_wrong_content_leaves_nothing_in_the_cache(hub_server: FakeHub, cache: Path) -> None:
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.corrupts_content = True
    with pytest.raises(LlmstackError, match=r"m.gguf: the SHA-256 of the downloaded file is not "):
        asyncio.run(download(connect(hub_server, cache), "m.gguf"))
    assert try_to_load_from_cache("org/name", "m.gguf", cache_dir=cache) is None
    assert not [path for path in (cache / "models--org--name").rglob("*") if path.is_file()]


def test_every_range_request_gets_a_fresh_address_from_the_hub(hub_server: FakeHub, cache: Path) -> None:
    """The signed address that the hub redirects to expires during a long download."""
    hub_server.files["org/name/m.gguf"] = CONTENT
    hub_server.faults.append(Fault(status=503))
    asyncio.run(download(connect(hub_server, cache), "m.gguf"))
    assert len(hub_server.request_headers("hub")) == len(hub_server.request_headers("cdn")) == 5


def test_without_symbolic_links_the_file_itself_is_in_the_snapshot(
    hub_server: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """huggingface_hub does the same."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no privilege")

    monkeypatch.setattr("os.symlink", refuse)
    hub_server.files["org/name/m.gguf"] = CONTENT
    (path,) = asyncio.run(download(connect(hub_server, cache), "m.gguf"))
    assert path.read_bytes() == CONTENT
    assert not path.is_symlink()
    sent = hub_server.sent_bytes
    asyncio.run(download(connect(hub_server, cache), "m.gguf"))
    assert hub_server.sent_bytes == sent

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.config.model import GgufModel
from llmstack.llama_cpp.weights import find_weights, hub_cache, shards

REPO = GgufModel(repo="org/name", file="m.gguf")
SHARDED = GgufModel(repo="org/name", file="Q4/m-00001-of-00003.gguf")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models--org--name"


def add_snapshot(repository: Path, revision: str, *names: str) -> None:
    for name in names:
        file = repository / "snapshots" / revision / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def find(model: GgufModel, repository: Path) -> str | None:
    path = find_weights(model, {"HF_HUB_CACHE": str(repository.parent)})
    return str(path.relative_to(repository / "snapshots")) if path else None


def test_the_environment_selects_the_hub_cache() -> None:
    home = {"XDG_CACHE_HOME": "~/xdg", "HF_HOME": "~/hf", "HF_HUB_CACHE": "~/hub"}
    caches = []
    for name in (None, "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        if name:
            del home[name]
        caches.append(str(hub_cache(home).relative_to(Path.home())))
    assert caches == ["hub", "hf/hub", "xdg/huggingface/hub", ".cache/huggingface/hub"]
    assert hub_cache({"HF_HOME": "", "HF_HUB_CACHE": ""}) == Path.home() / ".cache/huggingface/hub"


def test_a_model_that_is_not_on_disk(repository: Path) -> None:
    assert find(REPO, repository) is None
    (repository / "snapshots" / "abc").mkdir(parents=True)
    assert find(REPO, repository) is None
    assert find_weights(GgufModel(), {}) is None


def test_the_main_revision_is_preferred(repository: Path) -> None:
    add_snapshot(repository, "aaa", "m.gguf")
    add_snapshot(repository, "bbb", "m.gguf")
    assert find(REPO, repository) == "aaa/m.gguf"
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("bbb\n")
    assert find(REPO, repository) == "bbb/m.gguf"
    (repository / "snapshots" / "bbb" / "m.gguf").unlink()
    assert find(REPO, repository) == "aaa/m.gguf"
    for damaged in (b"\xff\xfe", b"", b"../../elsewhere"):
        (repository / "refs" / "main").write_bytes(damaged)
        assert find(REPO, repository) == "aaa/m.gguf"


def test_a_link_to_a_deleted_blob_is_not_found(repository: Path) -> None:
    add_snapshot(repository, "aaa", "other")
    (repository / "snapshots" / "aaa" / "m.gguf").symlink_to("../../blobs/gone")
    assert find(REPO, repository) is None


def test_a_sharded_model_is_found_only_if_every_shard_exists(repository: Path) -> None:
    add_snapshot(repository, "aaa", "Q4/m-00001-of-00003.gguf", "Q4/m-00003-of-00003.gguf")
    assert find(SHARDED, repository) is None
    add_snapshot(repository, "bbb", *(f"Q4/m-0000{number}-of-00003.gguf" for number in (1, 2, 3)))
    assert find(SHARDED, repository) == "bbb/Q4/m-00001-of-00003.gguf"
    third = GgufModel(repo="org/name", file="Q4/m-00003-of-00003.gguf")
    assert find(third, repository) == "bbb/Q4/m-00001-of-00003.gguf"


def test_shards_lists_every_file_of_a_model() -> None:
    assert [path.name for path in shards(Path("/x/a-00002-of-00002.gguf"))] == [
        "a-00001-of-00002.gguf",
        "a-00002-of-00002.gguf",
    ]
    for single in ("/x/a.gguf", "/x/a-1-of-2.gguf", "/x/a-00001-of-00000.gguf"):
        assert shards(Path(single)) == [Path(single)]


def test_a_model_at_a_path(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    assert find_weights(GgufModel(path=model), {}) is None
    model.touch()
    assert find_weights(GgufModel(path=model), {}) == model
    for missing in (tmp_path, model / "x", tmp_path / ("x" * 300), tmp_path / "x-00001-of-00000.gguf"):
        assert find_weights(GgufModel(path=missing), {}) is None

from __future__ import annotations

import asyncio
import os
import random
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from llmstack.serving.kv.costs import Costs, load_costs, store_costs
from llmstack.serving.kv.files import CacheMetadata, DamagedCacheError, PromptCacheFiles, budget_bytes, digest
from llmstack.units import GB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEAD = 2**22 + 1  # no process has this id


def save(files: PromptCacheFiles, session: str, size: int, *, identity: str = "model", used: int = 0) -> Path:
    """Save a conversation as the engine and the cache do together."""
    files.prepare_directory(identity)
    path = files.path_for(identity, session)
    files.part_path(path).write_bytes(os.urandom(size))
    files.commit(path, tier="a", model="a.gguf", tokens=size // 10)
    if used:
        os.utime(path, (used, used))
    return path


def test_a_saved_cache_is_found_again_and_private(tmp_path: Path) -> None:
    files = PromptCacheFiles(tmp_path / "kv", GB)
    path = save(files, "a conversation", 1000)
    assert files.verify(path) == CacheMetadata("a", "a.gguf", 100, 1000, digest(path))
    assert [(entry.path, entry.metadata.tokens) for entry in files.entries()] == [(path, 100)]
    assert {oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == {"0o600"}
    assert oct(files.root.stat().st_mode & 0o777) == "0o700"
    assert "conversation" not in " ".join(str(file) for file in files.root.rglob("*"))
    assert files.verify(files.path_for("model", "another")) is None
    assert files.clear() > 1000
    assert list(files.root.iterdir()) == [path.parent]  # a server may write to it
    assert list(path.parent.iterdir()) == []


def test_the_digest_covers_every_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmstack.serving.kv.files.BLOCK", 64)
    path, digests = tmp_path / "x", set()
    content = bytearray(random.Random(1).randbytes(1000))  # noqa: S311 - not for secrets
    for at in range(0, 1000, 50):
        content[at] ^= 1
        path.write_bytes(content)
        digests.add(digest(path))
    path.write_bytes(content[:-1])
    assert len(digests | {digest(path)}) == 21


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)


def remove_metadata(path: Path) -> None:
    path.with_suffix(".json").unlink()


def damage_metadata(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


@pytest.mark.parametrize("damage", [cut, flip, remove_metadata, damage_metadata])
def test_a_damaged_cache_is_refused_and_removed(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    files = PromptCacheFiles(tmp_path, GB)
    path = save(files, "x", 1000)
    damage(path)
    with pytest.raises(DamagedCacheError, match="the saved cache was damaged"):
        files.verify(path)
    assert files.verify(path) is None
    assert list(path.parent.iterdir()) == []


def test_incomplete_files_of_a_killed_router_are_removed(tmp_path: Path) -> None:
    files = PromptCacheFiles(tmp_path, GB)
    whole = save(files, "whole", 100)
    own_part = files.part_path(files.path_for("model", "being written"))
    own_part.write_bytes(b"half")
    _, pid, start, _ = own_part.name.split(".")
    for writer in (f"{DEAD}.{start}", f"{pid}.{start}0", f"{pid}.1", pid):  # pids are reused
        (whole.parent / f"0123.{writer}.part").write_bytes(b"half")
    (whole.parent / "4567.kv").write_bytes(b"killed before its metadata was written")
    files.prepare_directory("model")
    assert {path.name for path in whole.parent.iterdir()} == {
        whole.name,
        whole.with_suffix(".json").name,
        own_part.name,
    }


async def test_a_file_that_is_being_saved_is_not_removed_as_incomplete(tmp_path: Path) -> None:
    """Every save and every start of a model removes incomplete files, in other projects as well."""
    files, other, stopped = (
        PromptCacheFiles(tmp_path / "kv", GB),
        PromptCacheFiles(tmp_path / "kv", GB),
        threading.Event(),
    )

    def remove_incomplete() -> None:
        while not stopped.is_set():
            other.prepare_directory("another model")

    sweeping = asyncio.create_task(asyncio.to_thread(remove_incomplete))
    try:
        paths = [await asyncio.to_thread(save, files, str(number), 10) for number in range(50)]
    finally:
        stopped.set()
        await sweeping
    assert [path for path in paths if files.verify(path) is None] == []


def test_the_least_recently_used_cache_is_evicted(tmp_path: Path) -> None:
    files = PromptCacheFiles(tmp_path, 4000)
    paths = [save(files, name, 1000, used=100 + number) for number, name in enumerate("abc")]
    files.verify(paths[0])  # a was used just now
    assert files.evict_to_fit(1000)
    assert [path.exists() for path in paths] == [True, False, True]
    assert not files.evict_to_fit(4001)
    assert files.evict_to_fit(3000, replaced=paths[0])  # the replaced file is removed first
    assert [path.exists() for path in paths] == [False, False, False]


async def test_concurrent_writers_reserve_different_space(tmp_path: Path) -> None:
    files = PromptCacheFiles(tmp_path, 4000)
    first, second = (files.path_for("model", name) for name in "xy")
    async with files.reserve(3000, first) as first_fits, files.reserve(1001, second) as second_fits:
        assert (first_fits, second_fits) == (True, False)
    async with files.reserve(3000, first) as first_fits, files.reserve(1000, second) as second_fits:
        assert (first_fits, second_fits) == (True, True)


def test_some_of_the_free_disk_space_is_left_to_others(tmp_path: Path) -> None:
    files = PromptCacheFiles(tmp_path, 10**18)
    free = shutil.disk_usage(tmp_path).free
    assert (files.evict_to_fit(free // 2), files.evict_to_fit(free)) == (True, False)


def test_the_files_never_exceed_the_budget(tmp_path: Path) -> None:
    rng = random.Random(7)  # noqa: S311 - not for secrets
    files = PromptCacheFiles(tmp_path, 50_000)
    for _ in range(100):
        size, session = rng.randrange(20_000), str(rng.randrange(12))
        if files.evict_to_fit(size + 300, files.path_for("model", session)):
            save(files, session, size)
        assert files.total_bytes() <= files.budget


def test_the_budget_is_the_setting_or_a_share_of_the_disk(tmp_path: Path) -> None:
    assert budget_bytes(1.5, tmp_path) == 1.5 * GB
    assert budget_bytes(0, tmp_path) == 0
    assert 0 < budget_bytes(None, tmp_path / "not" / "there") <= 20 * GB


def test_a_cache_is_saved_only_if_reading_again_takes_longer(tmp_path: Path) -> None:
    costs = Costs()
    assert (costs.is_worth_saving(255), costs.is_worth_saving(256)) == (
        False,
        True,
    )  # saved once, to measure the costs
    costs.learn("save_s", 1000, 0.1)
    costs.learn("restore_s", 1000, 0.05)
    costs.learn("read_s", 1000, 1.0)
    assert (costs.is_worth_saving(11), costs.is_worth_saving(12)) == (
        False,
        True,
    )  # 1 ms a token against 0.15 and 10 ms
    store_costs(tmp_path / "costs.json", costs)
    assert load_costs(tmp_path / "costs.json") == costs
    for _ in range(20):
        costs.learn("save_s", 1000, 5.0)  # a slow disk
    assert not costs.is_worth_saving(100_000)
    (tmp_path / "costs.json").write_text('{"save_s": "x"}')
    assert load_costs(tmp_path / "costs.json") == Costs()


def test_what_writers_that_were_killed_left_is_removed_after_a_while(tmp_path: Path) -> None:
    files = PromptCacheFiles(tmp_path, GB)
    saved = save(files, "whole", 100)
    kept = {saved.name, saved.with_suffix(".json").name, "young.json", ".young.json.abcdefgh.tmp"}
    for name in ("old.json", ".old.json.abcdefgh.tmp", "young.json", ".young.json.abcdefgh.tmp"):
        (saved.parent / name).write_text("{")
    for path in saved.parent.iterdir():
        if "young" not in path.name:
            os.utime(path, (1, 1))
    files.prepare_directory("another model")
    assert {path.name for path in saved.parent.iterdir()} == kept

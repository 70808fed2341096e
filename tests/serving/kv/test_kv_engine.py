"""Prompt caches across swaps, on real llama.cpp."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from support import shapes
from support.kv import Talk, post, swapping

from llmstack.llama_cpp.tiny import write_random
from llmstack.upstream.client import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmstack.serving.pool.backend import PoolBackend

pytestmark = pytest.mark.engine
RULES = [{"role": "system", "content": "You are a careful agent, and these are your rules. " * 60}]
MAX_READ_WHEN_CACHED = (
    64  # tokens: the new question, and the end of the last answer, which may be tokenised differently
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    write_random(directory / "a.gguf", dim=128, layers=4, seed=1)
    write_random(directory / "b.gguf", dim=32, layers=1, seed=2)
    return directory


def talk(session: str) -> Talk:
    return Talk(session, [*RULES])


async def evict(swapper: PoolBackend) -> None:
    await swapper.load("b")
    assert swapper.states()["a"].state == "idle"


async def test_conversations_survive_swaps(models: Path, tmp_path: Path) -> None:
    """Three conversations that share a system prompt use two slots; compared with a run without swaps."""

    async def run(work_dir: Path, *, swaps: bool, parallel: int) -> tuple[list[str], list[int]]:
        texts: list[str] = []
        read: list[int] = []
        async with swapping(work_dir, models, parallel=parallel, ctx=4096) as swapper:
            talks = [talk(name) for name in "xyz"]
            for round_ in range(3):
                for one in talks:
                    turn = await one.turn(swapper, f"{one.session} {round_}?", stream=round_ == 1)
                    texts.append(turn.answer)
                    read.append(turn.prompt_n)
                    assert turn.kv.startswith("restored") == (swaps and round_ > 0)
                if swaps:
                    await evict(swapper)
        return texts, read

    swapped, read = await run(tmp_path / "swapped", swaps=True, parallel=2)
    unswapped, read_unswapped = await run(tmp_path / "straight", swaps=False, parallel=3)
    assert swapped == unswapped
    assert all(abs(a - b) <= 16 for a, b in zip(read[3:], read_unswapped[3:], strict=True))
    assert max(read[3:]) <= MAX_READ_WHEN_CACHED


@pytest.mark.parametrize("write", [shapes.gemma3, shapes.qwen3next])
async def test_sliding_windows_and_recurrent_states_survive_swaps(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    """llama.cpp cannot rewind these caches; it saves its checkpoints of them as well."""
    write(tmp_path / "a.gguf")
    write_random(tmp_path / "b.gguf", dim=32, layers=1)
    prompt = [token % 7 for token in range(1200)]
    async with swapping(tmp_path, tmp_path, ctx=4096) as swapper:
        for turn in range(2):
            async with await swapper.acquire("a", "x") as lease:
                body = {"prompt": prompt, "n_predict": 6, "id_slot": lease.slot}
                answer = await post(f"{lease.url}/completion", body, lease.headers)
                read = answer["timings"]["prompt_n"]
            prompt += [9, 8, 9] * 10  # not the tokens that it answered
            await evict(swapper)
            assert (read <= MAX_READ_WHEN_CACHED) == (turn > 0)


async def test_a_slot_is_saved_before_another_conversation_uses_it(models: Path, tmp_path: Path) -> None:
    """No model is swapped, and llama.cpp's own cache in RAM is off."""
    talks = [Talk(name, [{**RULES[0], "content": f"{name}: {RULES[0]['content']}"}]) for name in "xyz"]
    async with swapping(tmp_path, models, parallel=2, ctx=4096) as swapper:
        for one in talks:
            await one.turn(swapper, "one?")
        for one in talks:
            turn = await one.turn(swapper, "two?")
            assert turn.kv.startswith("restored ")
            assert turn.prompt_n <= MAX_READ_WHEN_CACHED
        assert swapper.states()["a"].loads == 1


async def test_conversations_survive_a_restart_of_the_router(models: Path, tmp_path: Path) -> None:
    conversation = talk("x")
    async with swapping(tmp_path, models) as swapper:
        assert (await conversation.turn(swapper, "one?")).kv == ""
    async with swapping(tmp_path, models) as swapper:
        assert (await conversation.turn(swapper, "two?")).kv.startswith("restored ")
        assert (await conversation.turn(swapper, "three?")).kv == ""  # the cache is still in its slot


def other_weights(models: Path, _saved: Path) -> None:
    before = (models / "a.gguf").stat()
    write_random(models / "a.gguf", dim=128, layers=4, seed=99)
    assert (models / "a.gguf").stat().st_size == before.st_size
    os.utime(models / "a.gguf", ns=(before.st_atime_ns, before.st_mtime_ns))


def truncated(_models: Path, saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[: saved.stat().st_size // 2])


def corrupted(_models: Path, saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 255
    saved.write_bytes(content)


def untouched(_models: Path, _saved: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "settings", "kv"),
    [
        (truncated, {}, "cold: the saved cache was damaged"),
        (corrupted, {}, "cold: the saved cache was damaged"),
        (other_weights, {}, ""),
        (untouched, {"ctx": 8192}, ""),
        (untouched, {"kv_type": "q8_0"}, ""),
        (untouched, {"extra": "rope_scaling = yarn(scale=2, orig_ctx=8192)"}, ""),
    ],
)
async def test_an_invalid_cache_is_not_used_and_the_prompt_is_read_again(
    models: Path, tmp_path: Path, change: Callable[[Path, Path], None], settings: dict[str, Any], kv: str
) -> None:
    own_models = tmp_path / "models"
    shutil.copytree(models, own_models)
    conversation = talk("x")
    async with swapping(tmp_path, own_models) as swapper:
        await conversation.turn(swapper, "one?")
    (saved,) = (tmp_path / "kv").glob("*/*.kv")
    change(own_models, saved)
    before = [*conversation.messages]
    async with swapping(tmp_path, own_models, **settings) as swapper:
        cold = await conversation.turn(swapper, "two?")
    assert (cold.kv, cold.cache_n) == (kv, 0)
    async with swapping(tmp_path / "fresh", own_models, **settings) as swapper:
        assert (await Talk("x", before).turn(swapper, "two?")).answer == cold.answer


async def test_requests_succeed_if_caches_cannot_be_written(models: Path, tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("a file is in the way")
    conversation = talk("x")
    async with swapping(tmp_path, models) as swapper:
        await conversation.turn(swapper, "one?")
        await evict(swapper)
        assert (await conversation.turn(swapper, "two?")).cache_n == 0


async def test_saving_can_be_switched_off_and_short_prompts_are_not_saved(
    models: Path, tmp_path: Path
) -> None:
    async with swapping(tmp_path / "off", models, kv_gb=0) as swapper:
        assert swapper.prompt_cache == "not saved: kv_cache_gb = 0"
        await talk("x").turn(swapper, "one?")
    assert not (tmp_path / "off" / "kv").exists()
    async with swapping(tmp_path / "on", models) as swapper:
        assert swapper.prompt_cache == f"saved on swap, up to 1 GB in {tmp_path / 'on' / 'kv'}"
        await Talk("x").turn(swapper, "hi")
    assert not list((tmp_path / "on" / "kv").glob("*/*.kv"))


async def test_closing_does_not_wait_for_a_busy_slot(models: Path, tmp_path: Path) -> None:
    async with swapping(tmp_path, models) as swapper:
        await talk("idle").turn(swapper, "one?")
        lease = await swapper.acquire("a", "busy")
        body = {"messages": RULES, "max_tokens": 100_000, "stream": True, "id_slot": lease.slot}
        content = json.dumps(body | {"ignore_eos": True}).encode()
        url = f"{lease.url}/v1/chat/completions"
        async with Upstream() as upstream:
            response = await upstream.send("POST", url, lease.headers, content)
            await anext(response.chunks())
            async with asyncio.timeout(5):
                await swapper.close()
    assert len(list((tmp_path / "kv").glob("*/*.kv"))) == 1


async def test_a_restored_cache_is_used_if_the_engine_chooses_the_slot(models: Path, tmp_path: Path) -> None:
    """`/v1/messages` accepts no slot."""

    async def ask(swapper: PoolBackend, session: str, text: str) -> tuple[str, int]:
        async with await swapper.acquire("a", session, pinned=False) as lease:
            assert lease.slot is None
            body = {"system": RULES[0]["content"], "messages": [{"role": "user", "content": text}]}
            answer = await post(f"{lease.url}/v1/messages", {**body, "max_tokens": 4}, lease.headers)
            return lease.kv, answer["usage"]["input_tokens"]

    text = "A long question, with much to read in it. " * 10
    async with swapping(tmp_path, models, parallel=2) as swapper:
        assert (await ask(swapper, "x", text))[1] > 800
        assert (await ask(swapper, "x", text + "And more?"))[1] < MAX_READ_WHEN_CACHED
        await evict(swapper)
        kv, read = await ask(swapper, "x", text + "And more? And even more?")
        assert kv.startswith("restored ")
        assert read < MAX_READ_WHEN_CACHED

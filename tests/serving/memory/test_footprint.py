from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmstack.config.model import BackendKind, EngineSettings, GgufModel, Tier
from llmstack.llama_cpp.gguf_header import GgufHeader
from llmstack.serving.memory.footprint import Footprint, checkpoint_bytes, compute_bytes, footprint, kv_bytes
from llmstack.units import GB, MB

QWEN_3B = GgufHeader(
    architecture="qwen2",
    size=2_438_740_384,
    layers=36,
    kv_heads=(2,) * 36,
    key_length=128,
    value_length=128,
    context=32_768,
    vocabulary=151_936,
    embedding=2048,
    heads=16,
    hidden=3 * 11_008,
)


def tier(*, size_gb: float | None = None, ctx_size: int = 131_072, **engine: object) -> Tier:
    settings = EngineSettings(**engine)  # type: ignore[arg-type]
    model = GgufModel(path=Path("m.gguf"), size_gb=size_gb)
    return Tier("code-fast", BackendKind.GGUF, model, ctx_size, engine=settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 36 layers x 2 heads x 128 values x (K + V) x 2 bytes = 36 864 bytes a token
        (EngineSettings(cache_type_k="f16", cache_type_v="f16", parallel=1), 36_864 * 131_072),
        (EngineSettings(cache_type_k="f16", cache_type_v="f16", parallel=2), 2 * 36_864 * 131_072),
        # q8_0: 34 bytes for 32 values
        (EngineSettings(parallel=1), 18_432 * 34 // 32 * 131_072),
        (
            EngineSettings(cache_type_k="f16", cache_type_v="q4_0", parallel=1),
            (9216 * 2 + 9216 * 18 // 32) * 131_072,
        ),
    ],
)
def test_the_kv_cache_size_follows_its_types_and_slots(settings: EngineSettings, expected: int) -> None:
    assert kv_bytes(QWEN_3B, settings, 131_072) == expected


def test_layers_without_a_kv_cache_are_not_counted() -> None:
    hybrid = GgufHeader("next", 1, 48, (0, 0, 0, 2) * 12, 256, 256, 262_144, 151_936, 2048)
    settings = EngineSettings(cache_type_k="f16", cache_type_v="f16", parallel=1)
    assert kv_bytes(hybrid, settings, 1024) == 12 * 2 * 256 * 2 * 2 * 1024


def test_the_cells_of_a_slot_are_rounded_up_to_blocks() -> None:
    settings = EngineSettings(cache_type_k="f16", cache_type_v="f16", parallel=2)
    assert kv_bytes(QWEN_3B, settings, 1000) == kv_bytes(QWEN_3B, settings, 1024) == 36_864 * 2048


def test_layers_with_a_window_keep_the_window_and_a_batch() -> None:
    # Gemma 3 27B: 62 layers, five of six with a window of 1024 tokens.
    gemma = replace(
        QWEN_3B,
        layers=62,
        kv_heads=(16,) * 62,
        window=1024,
        windowed=tuple(number % 6 < 5 for number in range(62)),
        window_key_length=128,
        window_value_length=128,
    )
    settings = EngineSettings(cache_type_k="f16", cache_type_v="f16", parallel=1)
    cell = 16 * 128 * 2 * 2
    assert kv_bytes(gemma, settings, 32_768) == cell * (10 * 32_768 + 52 * 1536)
    whole = replace(settings, extra_args=("--swa-full",))
    assert kv_bytes(gemma, whole, 32_768) == cell * 62 * 32_768
    # Layers that cannot be rewound are copied up to 32 times: a separate figure, not in the total.
    result = footprint(tier(parallel=1, cache_type_k="f16", cache_type_v="f16"), file_bytes=1, header=gemma)
    assert result.checkpoints == 32 * 1024 * 52 * cell
    few = replace(settings, extra_args=("--ctx-checkpoints", "4"))
    assert checkpoint_bytes(gemma, few, 32_768) == 4 * 1024 * 52 * cell


def test_recurrent_states_are_counted_for_each_slot() -> None:
    recurrent = replace(QWEN_3B, kv_heads=(0,) * 36, state=1_000_000)
    assert kv_bytes(recurrent, EngineSettings(parallel=3), 131_072) == 3 * 4 * 1_000_000
    assert compute_bytes(recurrent, EngineSettings(parallel=3), 10) == compute_bytes(
        recurrent, EngineSettings(parallel=3), 131_072
    )


def test_the_footprint_of_a_file_on_disk_is_computed_from_its_header() -> None:
    result = footprint(tier(parallel=1, cache_ram_gb=0.5), file_bytes=QWEN_3B.size, header=QWEN_3B)
    assert result == Footprint(
        weights=2_438_740_384,
        kv=18_432 * 34 // 32 * 131_072,
        prompt_cache=GB // 2,
        # 5 residual streams and 3 feed-forward widths of one pass, its mask, and the logits of one slot
        compute=48 * MB + 512 * 4 * (5 * 2048 + 3 * 11_008) + 512 * 2 * 131_072 + 2 * 4 * 151_936,
    )
    assert result.total == result.weights + result.kv + result.prompt_cache + result.compute
    assert result.device == result.total - GB // 2


def test_the_footprint_of_a_missing_file_is_its_configured_size() -> None:
    assert footprint(tier(size_gb=2.5), file_bytes=0, header=None) == Footprint(
        round(2.5 * GB), kv=0, prompt_cache=GB, compute=48 * MB
    )

from __future__ import annotations

import contextlib
import io
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import sample
from support.gguf import array, gguf, llama, raw, text, tokens, u32

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.gguf_header import GgufHeader, read_header, read_header_from
from llmstack.llama_cpp.tiny import write_echo

if TYPE_CHECKING:
    from pathlib import Path

HUGE = 2**62
HYBRID = {
    "block_count": 6,
    "embedding_length": 64,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 128,
    "ssm.state_size": 32,
    "ssm.group_count": 2,
}


def header_from_bytes(directory: Path, content: bytes) -> GgufHeader:
    path = directory / "model.gguf"
    path.write_bytes(content)
    return read_header(path)


def test_the_shape_of_a_small_llama(tmp_path: Path) -> None:
    content = gguf(llama()) + b"\0" * 1000
    assert header_from_bytes(tmp_path, content) == GgufHeader(
        architecture="llama",
        size=len(content),
        layers=3,
        kv_heads=(2, 2, 2),
        key_length=8,
        value_length=8,
        context=4096,
        vocabulary=5,
        embedding=64,
        heads=8,
        hidden=2 * 64,
    )


@pytest.mark.engine
def test_the_shape_of_a_model_that_llama_cpp_loads(tmp_path: Path) -> None:
    path = tmp_path / "echo.gguf"
    write_echo(path, speaker="a", context=8192)
    header = read_header(path)
    assert (header.architecture, header.layers, header.context) == ("llama", 1, 8192)
    assert (header.size, header.key_length) == (path.stat().st_size, 64)


def test_heads_per_layer_and_explicit_key_and_value_lengths(tmp_path: Path) -> None:
    content = gguf(
        llama(
            llama__attention__head_count=array(4, 3, struct.pack("<3I", 8, 16, 8)),
            llama__attention__head_count_kv=array(5, 3, struct.pack("<3i", 0, 4, 0)),
            llama__attention__key_length=u32(192),
            llama__attention__value_length=u32(128),
        )
    )
    header = header_from_bytes(tmp_path, content)
    assert (header.kv_heads, header.key_length, header.value_length) == ((0, 4, 0), 192, 128)


def test_head_counts_and_vocabulary_may_be_missing(tmp_path: Path) -> None:
    many_heads = header_from_bytes(
        tmp_path, gguf(llama(llama__attention__head_count_kv=None, tokenizer__ggml__tokens=None))
    )
    assert (many_heads.kv_heads, many_heads.vocabulary) == ((8, 8, 8), 0)
    recurrent = header_from_bytes(
        tmp_path, gguf(llama(llama__attention__head_count_kv=None, llama__attention__head_count=None))
    )
    assert sum(recurrent.kv_heads) == 0


def test_layers_without_a_kv_cache_count_no_kv_heads(tmp_path: Path) -> None:
    hybrid = {
        "general.architecture": text("qwen3next"),
        **{f"qwen3next.{name}": u32(value) for name, value in HYBRID.items()},
    }
    header = header_from_bytes(tmp_path, gguf(hybrid))
    # every fourth layer has attention; the others a convolution of 3 x (128 + 2 x 2 x 32), and 32 x 128
    assert (header.kv_heads, header.state) == ((0, 0, 0, 2, 0, 0), 5 * (3 * 256 + 4096))
    speculative = header_from_bytes(tmp_path, gguf(llama(llama__nextn_predict_layers=u32(1))))
    assert speculative.kv_heads == (2, 2, 0)
    latent = header_from_bytes(tmp_path, gguf(llama(llama__attention__key_length_mla=u32(24))))
    assert latent.kv_values(windowed=False) == (3 * 2 * 8, 0)


def test_layers_with_a_sliding_window(tmp_path: Path) -> None:
    window = {"llama__attention__sliding_window": u32(512)}
    assert (
        header_from_bytes(tmp_path, gguf(llama(**window))).windowed == ()
    )  # llama.cpp ignores it for this architecture
    period = header_from_bytes(
        tmp_path, gguf(llama(**window, llama__attention__sliding_window_pattern=u32(3)))
    )
    assert (period.window, period.windowed) == (512, (True, True, False))
    per_layer = array(7, 3, b"\0\1\0")
    explicit = header_from_bytes(
        tmp_path,
        gguf(
            llama(
                **window,
                llama__attention__sliding_window_pattern=per_layer,
                llama__attention__key_length_swa=u32(4),
            )
        ),
    )
    assert (explicit.windowed, explicit.window_key_length) == ((False, True, False), 4)
    assert (explicit.kv_values(windowed=True), explicit.kv_values(windowed=False)) == ((8, 16), (32, 32))


def test_a_remote_header_is_read_only_up_to_the_vocabulary() -> None:
    content = gguf(llama(tokenizer__ggml__tokens=tokens(50_000)))
    beginning = content[: content.index(b"tokenizer.ggml.tokens") + 40]
    header = read_header_from(io.BytesIO(beginning), len(content), "remote", stop_at_vocabulary=True)
    assert (header.vocabulary, header.layers, header.size) == (50_000, 3, len(content))
    with pytest.raises(LlmstackError, match="remote: expected a GGUF model: the file ends"):
        read_header_from(io.BytesIO(beginning), len(content), "remote")


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (llama(general__architecture=None), "lacks general.architecture"),
        (llama(general__architecture=u32(1)), "lacks general.architecture"),
        (llama(llama__block_count=None), "lacks llama.block_count"),
        (llama(llama__embedding_length=None), "lacks llama.embedding_length"),
        (llama(llama__block_count=text("many")), "invalid literal"),
        (llama(llama__block_count=(6, struct.pack("<f", float("inf")))), "infinity"),
        (llama(llama__block_count=(6, struct.pack("<f", float("nan")))), "NaN"),
        (llama(llama__block_count=u32(2**32 - 1)), "4294967295 layers"),
        (llama(llama__embedding_length=(5, struct.pack("<i", -1))), "negative"),
        (llama(llama__attention__head_count_kv=array(5, 1, struct.pack("<i", -1))), "negative"),
        (llama(llama__attention__head_count=array(4, 0, b"")), ""),
        (llama(tokenizer__ggml__tokens=array(4, 2, struct.pack("<2I", 1, 2))), "int"),
        (llama(odd=(77, b"")), "unknown value type 77"),
        (llama(odd=array(77, 1, b"")), "array of values of type 77"),
        (llama(odd=array(77, HUGE, b"")), "array of"),
        (llama(odd=array(8, HUGE, b"")), "arrays of more than 4000000 strings"),
        (llama(odd=array(4, HUGE, b"")), "ends inside"),
        (llama(odd=array(10, 2**64 - 1, b"")), "ends inside"),
        (llama(odd=array(6, 150_000, b"")), "ends inside"),
        (llama(odd=array(8, 1, struct.pack("<Q", HUGE))), "ends inside"),
        (llama(odd=(8, struct.pack("<Q", HUGE))), "ends inside"),
        (llama(llama__block_count=text("9" * 2000)), "invalid literal"),
        (llama(llama__context_length=(10, struct.pack("<Q", 2**32))), "context_length is larger than"),
        (llama(llama__attention__head_count_kv=array(10, 1, struct.pack("<Q", HUGE))), "larger than"),
        (llama(llama__embedding_length=(12, struct.pack("<d", 1e308))), "larger than"),
        (llama(general__architecture=text("llama\x1b]52;")), "general.architecture is not a name"),
        (llama(general__architecture=text("a" * 2000)), "general.architecture is not a name"),
        (llama(odd=array(9, 1, struct.pack("<IQ", 9, 1) * 5000)), "array of values of type 9"),
    ],
)
def test_an_impossible_header_is_an_error_and_costs_little(
    tmp_path: Path, entries: dict[str, tuple[int, bytes]], reason: str
) -> None:
    start = time.perf_counter()
    tracemalloc.start()
    try:
        if reason:
            with pytest.raises(LlmstackError, match=f"expected a GGUF model: .*{reason}"):
                header_from_bytes(tmp_path, gguf(entries))
        else:
            header_from_bytes(tmp_path, gguf(entries))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ends inside"),
        (b"GGML" + bytes(20), "starts with b'GGML'"),
        (gguf({}, version=1), "version is 1"),
        (gguf({}, version=0x03000000), "version is 50331648"),
        (gguf({}, count=HUGE), "entries in its header"),
        (gguf({}, count=1000), "ends inside"),
    ],
)
def test_a_file_of_another_format_is_an_error(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(LlmstackError, match=reason) as raised:
        header_from_bytes(tmp_path, content)
    assert raised.value.hint == "the file is damaged or of another format; download it again"


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.gguf"):
        with pytest.raises(LlmstackError, match=f"cannot read {path}"):
            read_header(path)


def test_a_truncated_header_is_an_error(tmp_path: Path) -> None:
    content = gguf(llama(scores=array(6, 5000, bytes(20_000)), last=u32(1)))
    cuts = [*range(400), *range(400, len(content), 97), len(content) - 1]
    for cut in cuts:
        with pytest.raises(LlmstackError):
            header_from_bytes(tmp_path, content[:cut])
    assert header_from_bytes(tmp_path, content)


@sample(400)
@given(st.lists(st.tuples(st.integers(4, 500), st.integers(0, 255)), max_size=6), st.integers(0, 500))
def test_a_damaged_header_raises_no_other_error(
    tmp_path: Path, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(gguf(llama(layers=array(4, 3, struct.pack("<3I", 1, 2, 3)), name=text("x"))))
    for position, value in changes:
        content[position % len(content)] = value
    start = time.perf_counter()
    with contextlib.suppress(LlmstackError):
        header_from_bytes(tmp_path, bytes(content[: len(content) - cut // 4]))
    assert time.perf_counter() - start < 2


def test_a_large_vocabulary_is_read_quickly(tmp_path: Path) -> None:
    merges = array(8, 280_000, b"".join(raw(f"a{number}") for number in range(280_000)))
    start = time.perf_counter()
    header = header_from_bytes(
        tmp_path, gguf(llama(tokenizer__ggml__tokens=tokens(152_000), tokenizer__ggml__merges=merges))
    )
    assert header.vocabulary == 152_000
    assert time.perf_counter() - start < 5

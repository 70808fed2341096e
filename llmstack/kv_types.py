"""The value types that llama.cpp offers for its KV cache, under llama.cpp's own names."""

from __future__ import annotations

BYTES_PER_VALUE = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    # ggml block types: bytes of a block of 32 values, / 32
    "q8_0": 34 / 32,
    "q4_0": 18 / 32,
    "q4_1": 20 / 32,
    "iq4_nl": 18 / 32,
    "q5_0": 22 / 32,
    "q5_1": 24 / 32,
}
KV_TYPES = tuple(BYTES_PER_VALUE)

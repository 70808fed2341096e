"""How much memory a loaded model needs, computed from its shape and its settings. Pure.

The results are compared with llama.cpp's log in tests/serving/memory/test_footprint_engine.py: weights and KV
cache are llama.cpp's own sums, the compute buffer is fitted to its figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from llmstack.kv_types import BYTES_PER_VALUE
from llmstack.units import GB, MB

if TYPE_CHECKING:
    from llmstack.config.model import EngineSettings, Tier
    from llmstack.llama_cpp.model_shape import GgufHeader

PROCESS_BYTES = 48 * MB  # a model server without a model (measured 37-47 MB)
UBATCH = 512  # llama.cpp's default for --ubatch-size: tokens in one pass
CELL_PADDING = 256  # each slot's cells are rounded up to a multiple (llama-context.cpp, GGML_PAD)
F32, F16 = 4, 2
RESIDUALS = 5  # copies of the residual stream that a pass holds (fitted)
CHECKPOINTS = 32  # llama.cpp's default for --ctx-checkpoints, for each slot


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory that one loaded model needs, in bytes.

    Attributes:
        weights: the weights of the model.
        kv: the KV cache of all slots, and the states of recurrent layers.
        prompt_cache: llama.cpp's prompt cache, in RAM even if a GPU holds the model.
        compute: the buffer for one pass, and the process itself.
        checkpoints: RAM that long conversations may add; not part of the total. llama.cpp copies what it
            cannot rewind, recurrent states and sliding windows, at least once in every turn (measured).
    """

    weights: int
    kv: int = 0
    prompt_cache: int = 0
    compute: int = PROCESS_BYTES
    checkpoints: int = 0

    @property
    def total(self) -> int:
        """All memory that it needs after the start."""
        return self.weights + self.kv + self.prompt_cache + self.compute

    @property
    def device(self) -> int:
        """The part in the GPU's memory if a GPU holds the model."""
        return self.weights + self.kv + self.compute


def padded(tokens: int) -> int:
    """Return the number of cells of a slot with so many tokens."""
    return -(-tokens // CELL_PADDING) * CELL_PADDING


def window_cells(header: GgufHeader, engine: EngineSettings, ctx_size: int) -> int:
    """Return the cells of a slot in layers with a sliding window: the window and one batch."""
    if not header.windowed or "--swa-full" in engine.extra_args:
        return padded(ctx_size)
    return padded(min(padded(ctx_size), header.window + UBATCH))


def kv_bytes(header: GgufHeader, engine: EngineSettings, ctx_size: int) -> int:
    """Return the size of KV cache and states with `ctx_size` tokens in each of `parallel` slots."""
    cells_by_kind = {False: padded(ctx_size), True: window_cells(header, engine, ctx_size)}
    one_slot = sum(
        _bytes_per_cell(header, engine, windowed=windowed) * cells
        for windowed, cells in cells_by_kind.items()
    )
    return round(engine.parallel * (one_slot + header.state * F32))


def _bytes_per_cell(header: GgufHeader, engine: EngineSettings, *, windowed: bool) -> float:
    """Return the bytes of one token in all layers with, or without, a sliding window."""
    keys, values = header.kv_values(windowed=windowed)
    return keys * BYTES_PER_VALUE[engine.cache_type_k] + values * BYTES_PER_VALUE[engine.cache_type_v]


def compute_bytes(header: GgufHeader, engine: EngineSettings, ctx_size: int) -> int:
    """Return the size of the compute and output buffers.

    llama.cpp before June 2026 (pull request 23861) reserved logits for every token of a pass, which took
    512 x vocabulary x 4 bytes more.
    """
    cells = padded(ctx_size) + (window_cells(header, engine, ctx_size) if header.windowed else 0)
    activations = UBATCH * F32 * (RESIDUALS * header.embedding + header.hidden)
    scores = UBATCH * cells * (F32 * (header.heads + 1) if engine.flash_attn == "off" else F16)
    logits = 2 * engine.parallel * header.vocabulary * F32
    return activations + (scores if any(header.kv_heads) else 0) + logits


def checkpoint_bytes(header: GgufHeader, engine: EngineSettings, ctx_size: int) -> int:
    """Return the RAM for copies of recurrent states and sliding windows, which cannot be rewound."""
    window = min(header.window, ctx_size) if header.windowed else 0
    one_copy = header.state * F32 + window * _bytes_per_cell(header, engine, windowed=True)
    return round(_checkpoints(engine.extra_args) * engine.parallel * one_copy)


def _checkpoints(extra_args: tuple[str, ...]) -> int:
    """Return how many copies a slot keeps."""
    value = dict(pairwise(extra_args)).get("--ctx-checkpoints", "")
    return int(value) if value.isdecimal() else CHECKPOINTS


def footprint(tier: Tier, *, file_bytes: int, header: GgufHeader | None) -> Footprint:
    """Return what a gguf tier needs when it is loaded.

    Args:
        tier: the tier; its `size_gb` in models.ini is used instead of the file's size.
        file_bytes: size of its file or files; 0 if it is not known.
        header: None if the file could not be read: the KV cache is not known then and counts as 0.
    """
    size_gb = getattr(tier.model, "size_gb", None)
    weights = round(size_gb * GB) if size_gb is not None else file_bytes
    prompt_cache = round(tier.engine.cache_ram_gb * GB)
    if header is None:
        return Footprint(weights, prompt_cache=prompt_cache)
    return Footprint(
        weights=weights,
        kv=kv_bytes(header, tier.engine, tier.ctx_size),
        prompt_cache=prompt_cache,
        compute=PROCESS_BYTES + compute_bytes(header, tier.engine, tier.ctx_size),
        checkpoints=checkpoint_bytes(header, tier.engine, tier.ctx_size),
    )

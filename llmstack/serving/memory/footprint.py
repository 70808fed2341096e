"""How much memory a resident model takes, from its shape and its settings. Pure.

Figures were compared with what llama.cpp logs (tests/swapper/test_footprint_engine.py): weights and KV cache
are its own sums, the compute buffer is fitted to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from llmstack.kv_types import BYTES_PER_VALUE

if TYPE_CHECKING:
    from llmstack.config.model import EngineSettings, Tier
    from llmstack.llama_cpp.model_shape import GgufHeader

GB = 1024**3
MB = 1024**2
PROCESS_BYTES = 48 * MB  # a model server without a model (measured 37-47 MB)
UBATCH = 512  # llama.cpp's default for --ubatch-size: tokens in one pass
CELLS = 256  # each slot's cells are rounded up to as many (llama-context.cpp, GGML_PAD)
F32, F16 = 4, 2
RESIDUALS = 5  # copies of the residual stream that a pass holds (fitted)
CHECKPOINTS = 32  # llama.cpp's default for --ctx-checkpoints, for each slot


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory that one resident model needs, in bytes.

    Attributes:
        weights: of the model.
        kv: the KV cache of every slot, and the states of recurrent layers.
        prompt_cache: kept in RAM, also where a GPU holds the model.
        compute: the buffer for one pass, and the process itself.
        checkpoints: what long conversations may add in RAM; not in the total. llama.cpp copies what it
            cannot rewind, recurrent states and sliding windows, once or more in every turn (measured).
    """

    weights: int
    kv: int = 0
    prompt_cache: int = 0
    compute: int = PROCESS_BYTES
    checkpoints: int = 0

    @property
    def total(self) -> int:
        """Everything that it takes from the start."""
        return self.weights + self.kv + self.prompt_cache + self.compute

    @property
    def device(self) -> int:
        """What is in the GPU's memory where it holds the model."""
        return self.weights + self.kv + self.compute


def padded(tokens: int) -> int:
    """Return the cells that a slot of so many tokens gets."""
    return -(-tokens // CELLS) * CELLS


def window_cells(header: GgufHeader, engine: EngineSettings, ctx_size: int) -> int:
    """Return the cells of a slot in layers with a sliding window; they hold a batch on top of the window."""
    if not header.windowed or "--swa-full" in engine.extra_args:
        return padded(ctx_size)
    return padded(min(padded(ctx_size), header.window + UBATCH))


def kv_bytes(header: GgufHeader, engine: EngineSettings, ctx_size: int) -> int:
    """Return the size of the KV cache with `ctx_size` tokens in each of `parallel` slots, and of states."""
    kinds = {False: padded(ctx_size), True: window_cells(header, engine, ctx_size)}
    of_one_slot = sum(_cell(header, engine, windowed=kind) * cells for kind, cells in kinds.items())
    return round(engine.parallel * (of_one_slot + header.state * F32))


def _cell(header: GgufHeader, engine: EngineSettings, *, windowed: bool) -> float:
    """Return the bytes of one token in all layers of a kind."""
    keys, values = header.kv_values(windowed=windowed)
    return keys * BYTES_PER_VALUE[engine.cache_type_k] + values * BYTES_PER_VALUE[engine.cache_type_v]


def compute_bytes(header: GgufHeader, engine: EngineSettings, ctx_size: int) -> int:
    """Return the size of the compute and output buffers.

    llama.cpp before June 2026 (pull request 23861) reserved logits for every token of a pass, which was
    512 x vocabulary x 4 bytes more.
    """
    cells = padded(ctx_size) + (window_cells(header, engine, ctx_size) if header.windowed else 0)
    activations = UBATCH * F32 * (RESIDUALS * header.embedding + header.hidden)
    scores = UBATCH * cells * (F32 * (header.heads + 1) if engine.flash_attn == "off" else F16)
    logits = 2 * engine.parallel * header.vocabulary * F32
    return activations + (scores if any(header.kv_heads) else 0) + logits


def checkpoint_bytes(header: GgufHeader, engine: EngineSettings, ctx_size: int) -> int:
    """Return the RAM for copies of what cannot be rewound: recurrent states and sliding windows."""
    window = min(header.window, ctx_size) if header.windowed else 0
    one = header.state * F32 + window * _cell(header, engine, windowed=True)
    return round(_checkpoints(engine.extra_args) * engine.parallel * one)


def _checkpoints(extra_args: tuple[str, ...]) -> int:
    """Return how many copies a slot keeps."""
    given = dict(pairwise(extra_args)).get("--ctx-checkpoints", "")
    return int(given) if given.isdecimal() else CHECKPOINTS


def footprint(tier: Tier, *, file_bytes: int, header: GgufHeader | None) -> Footprint:
    """Return what a gguf tier needs once resident.

    Args:
        tier: the tier; a `size_gb` in models.ini counts instead of the file's size.
        file_bytes: size of its file or files; 0 where it is not known.
        header: None where the file could not be read: then the KV cache is unknown and counted as 0.
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

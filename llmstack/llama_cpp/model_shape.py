"""The shape of a model, as far as its memory use depends on it, from the metadata of its GGUF file.

The rules are those of llama.cpp: src/llama-hparams.cpp and the `load_arch_hparams` of each architecture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_LAYERS = 65_536
_MAX_NUMBER = 2**32 - 1  # llama.cpp keeps these numbers in a uint32_t (llama_hparams)
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)

# The period N of architectures in which all layers but every Nth have a sliding window, if the file does not
# say which layers do.
_WINDOW_PERIOD = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "llama4": 4,
    "olmo2": 4,
    "plamo3": 8,
    "smallthinker": 4,
}
_WINDOW = {"gemma2": 4096, "llama4": 8192}  # the width, if the file does not say it
_FULL_FIRST = {"smallthinker"}  # the first of N layers has full attention; in other architectures the last
_KV_FROM_START = {"gemma3n": 20}  # number of layers with a KV cache; later layers share it

_ALL_RECURRENT = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
_RECURRENT_AND_ATTENTION = {"falcon-h1"}  # every layer has both
_FULL_ATTENTION_INTERVAL = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
_TOKEN_SHIFTS = {"rwkv7": 1, "arwkv7": 1, "rwkv6qwen2": 1}  # rwkv6 has 2


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The shape of a model, as far as its memory use depends on it.

    Attributes:
        architecture: name of the architecture, such as `llama`.
        size: size of the file, in bytes.
        layers: number of transformer blocks.
        kv_heads: KV heads of each layer; 0 for a layer without a KV cache.
        key_length: values per head in the K cache.
        value_length: values per head in the V cache; 0 if V is not cached.
        context: number of tokens of the context that the model was trained for.
        vocabulary: number of tokens in the vocabulary.
        embedding: width of the residual stream.
        heads: attention heads of the widest layer.
        hidden: values per token in the widest step of a layer, without the residual stream.
        window: tokens in the sliding window of windowed layers; 0 if there are none.
        windowed: for each layer whether it has a sliding window; empty if none has.
        window_key_length: values per head in the K cache of windowed layers.
        window_value_length: values per head in the V cache of windowed layers.
        state: values that all recurrent layers together keep for one conversation, whatever its length.
    """

    architecture: str
    size: int
    layers: int
    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    context: int
    vocabulary: int
    embedding: int
    heads: int = 0
    hidden: int = 0
    window: int = 0
    windowed: tuple[bool, ...] = ()
    window_key_length: int = 0
    window_value_length: int = 0
    state: int = 0

    def kv_values(self, *, windowed: bool) -> tuple[int, int]:
        """Return how many K and V values one token takes in all layers with, or without, a sliding window."""
        flags = self.windowed or (False,) * self.layers
        heads = sum(count for count, flag in zip(self.kv_heads, flags, strict=False) if flag == windowed)
        if windowed:
            return heads * self.window_key_length, heads * self.window_value_length
        return heads * self.key_length, heads * self.value_length


class _ArchitectureMetadata:
    """The entries of the metadata whose keys start with the architecture's name."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self._metadata = metadata
        self._architecture = architecture

    def get(self, name: str) -> Any:
        return self._metadata.get(f"{self._architecture}.{name}")

    def get_int(self, name: str, default: int | None = None) -> int:
        """Return a number, the largest if there is one per layer.

        Raises:
            ValueError: it is missing and there is no default, or it is out of range.
        """
        value = self.get(name)
        if value is None:
            value = default
        if value is None:
            raise ValueError(f"its header lacks {self._architecture}.{name}")
        if isinstance(value, tuple):
            value = max(value, default=0)
        return self._in_range(name, value)

    def get_per_layer(self, name: str, default: tuple[int, ...], layers: int) -> tuple[int, ...]:
        """Return one number per layer; a single number in the file is that of every layer.

        Raises:
            ValueError: one is out of range.
        """
        value = self.get(name)
        value = default if value is None else value
        if isinstance(value, tuple):
            return tuple(self._in_range(name, entry) for entry in value)
        return (self._in_range(name, value),) * layers

    def _in_range(self, name: str, value: Any) -> int:
        number = int(value)
        if number < 0:
            raise ValueError(f"its {self._architecture}.{name} is negative")
        if number > _MAX_NUMBER:
            raise ValueError(f"its {self._architecture}.{name} is larger than {_MAX_NUMBER}")
        return number


def header_from_metadata(metadata: Mapping[str, Any], size: int) -> GgufHeader:
    """Return the shape of the model that the metadata of a GGUF file describes.

    Args:
        metadata: the values of the header by their keys; of a long array only its length.
        size: size of the file, in bytes.

    Raises:
        ValueError, TypeError, ArithmeticError: a required value is missing or invalid.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise ValueError("its header lacks general.architecture")  # noqa: TRY004 - the file's value, not an argument
    if not _NAME.fullmatch(architecture):
        raise ValueError("its general.architecture is not a name")
    shape = _ArchitectureMetadata(metadata, architecture)
    layers, embedding = shape.get_int("block_count"), shape.get_int("embedding_length")
    if layers > _MAX_LAYERS:
        raise ValueError(f"{layers} layers in its header")
    heads = shape.get_per_layer("attention.head_count", (0,), layers)  # a recurrent model may have none
    widest = max(heads, default=0)
    head_size = embedding // widest if widest else 0
    kv_heads = shape.get_per_layer("attention.head_count_kv", heads, layers)
    recurrent = _recurrent_layers(architecture, shape, layers, kv_heads)
    key_length = shape.get_int("attention.key_length", head_size)
    value_length = shape.get_int("attention.value_length", head_size)
    if shape.get_int("attention.key_length_mla", 0):  # latent attention: V is computed from the K cache
        value_length = 0
    window, windowed = _sliding_windows(architecture, shape, layers)
    return GgufHeader(
        architecture=architecture,
        size=size,
        layers=layers,
        kv_heads=_cached_kv_heads(architecture, shape, kv_heads, recurrent),
        key_length=key_length,
        value_length=value_length,
        context=shape.get_int("context_length", 0),
        vocabulary=min(int(metadata.get("tokenizer.ggml.tokens", 0)), _MAX_NUMBER),
        embedding=embedding,
        heads=widest,
        hidden=_widest_step(shape, embedding, widest * key_length),
        window=window,
        windowed=windowed,
        window_key_length=shape.get_int("attention.key_length_swa", key_length) if windowed else 0,
        window_value_length=shape.get_int("attention.value_length_swa", value_length) if windowed else 0,
        state=sum(recurrent) * _state_size(architecture, shape, embedding, widest),
    )


def _cached_kv_heads(
    architecture: str, metadata: _ArchitectureMetadata, kv_heads: tuple[int, ...], recurrent: tuple[bool, ...]
) -> tuple[int, ...]:
    """Return the KV heads of each layer, 0 for one that keeps no KV cache of its own."""
    layers = len(recurrent)
    shared = metadata.get_int("attention.shared_kv_layers", 0) + metadata.get_int("nextn_predict_layers", 0)
    first_without = min(_KV_FROM_START.get(architecture, layers), layers - shared)
    # A recurrent layer has no KV cache, unless all layers of the architecture have attention as well.
    has_no_attention = (False,) * layers if architecture in _RECURRENT_AND_ATTENTION else recurrent
    return tuple(
        0 if number >= first_without or (number < layers and has_no_attention[number]) else count
        for number, count in enumerate(kv_heads)
    )


def _sliding_windows(
    architecture: str, metadata: _ArchitectureMetadata, layers: int
) -> tuple[int, tuple[bool, ...]]:
    """Return the window in tokens and, for each layer, whether it has it; `(0, ())` if no layer has."""
    window = metadata.get_int("attention.sliding_window", _WINDOW.get(architecture, 0))
    pattern = metadata.get("attention.sliding_window_pattern")
    if isinstance(pattern, tuple) and pattern:
        windowed = tuple(bool(pattern[number % len(pattern)]) for number in range(layers))
    else:
        # llama.cpp ignores a window in architectures that are not listed: with period 1 no layer has it.
        period = int(pattern) if isinstance(pattern, int) else _WINDOW_PERIOD.get(architecture, 1)
        full = 0 if architecture in _FULL_FIRST else period - 1
        windowed = tuple(period == 0 or number % period != full for number in range(layers))
    return (window, windowed) if window and any(windowed) else (0, ())


def _recurrent_layers(
    architecture: str, metadata: _ArchitectureMetadata, layers: int, kv_heads: tuple[int, ...]
) -> tuple[bool, ...]:
    """Return for each layer whether it keeps a recurrent state."""
    if architecture in _ALL_RECURRENT | _RECURRENT_AND_ATTENTION:
        return (True,) * layers
    if not any(metadata.get(name) for name in ("ssm.inner_size", "shortconv.l_cache", "wkv.head_size")):
        return (False,) * layers
    interval = metadata.get_int("full_attention_interval", _FULL_ATTENTION_INTERVAL.get(architecture, 0))
    if interval:
        return tuple((number + 1) % interval != 0 for number in range(layers))
    feed_forward = metadata.get("feed_forward_length")
    widths = feed_forward if isinstance(feed_forward, tuple) else (0,) * layers
    return tuple(not heads and not width for heads, width in zip(kv_heads, widths, strict=False))


def _state_size(architecture: str, metadata: _ArchitectureMetadata, embedding: int, heads: int) -> int:
    """Return how many values one recurrent layer keeps for its convolution and its state."""
    if head := metadata.get_int("wkv.head_size", 0):
        shifts = metadata.get_int("token_shift_count", _TOKEN_SHIFTS.get(architecture, 2))
        return embedding * (shifts + head)
    if cache := metadata.get_int("shortconv.l_cache", 0):
        return embedding * (cache - 1)
    previous = max(metadata.get_int("ssm.conv_kernel", 0) - 1, 0)  # inputs that the convolution looks back
    if head := metadata.get_int("kda.head_dim", 0):
        return head * heads * (3 * previous + head)
    inner, state = metadata.get_int("ssm.inner_size", 0), metadata.get_int("ssm.state_size", 0)
    return previous * (inner + 2 * metadata.get_int("ssm.group_count", 0) * state) + state * inner


def _widest_step(metadata: _ArchitectureMetadata, embedding: int, queries: int) -> int:
    """Return how many values per token the widest step of a layer has (fitted to measured buffers)."""
    experts = metadata.get_int("expert_used_count", 0)
    return max(
        3 * metadata.get_int("feed_forward_length", 0) if not experts else 0,
        experts * (3 * metadata.get_int("expert_feed_forward_length", 0) + embedding),
        2 * queries,
        5 * metadata.get_int("ssm.inner_size", 0),
    )

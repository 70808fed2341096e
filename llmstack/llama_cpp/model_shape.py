"""What of a model's shape its memory depends on, from the metadata of its GGUF file.

The rules are llama.cpp's own: src/llama-hparams.cpp and the `load_arch_hparams` of each architecture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_LAYERS = 65_536

# Layers that see a sliding window, where the file does not say which: all but every Nth.
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
_WINDOW = {"gemma2": 4096, "llama4": 8192}  # where the file does not say how wide
_FULL_FIRST = {"smallthinker"}  # of N layers the first one sees everything; elsewhere the last one
_KV_FROM_START = {"gemma3n": 20}  # the layers after them share the KV cache of earlier ones

_ALL_RECURRENT = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
_RECURRENT_AND_ATTENTION = {"falcon-h1"}  # in every layer
_FULL_ATTENTION_INTERVAL = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
_TOKEN_SHIFTS = {"rwkv7": 1, "arwkv7": 1, "rwkv6qwen2": 1}  # rwkv6 keeps 2


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The shape of a model, as far as memory depends on it.

    Attributes:
        size: bytes of the file.
        layers: transformer blocks.
        kv_heads: per layer; 0 for a layer without a KV cache.
        key_length: values per head in the K cache; `value_length` likewise for V, 0 where V is not kept.
        context: tokens the model was trained for.
        vocabulary: number of tokens.
        embedding: width of the residual stream.
        heads: attention heads of the widest layer.
        hidden: values per token of the widest step of a layer, beside the residual stream.
        window: tokens that a sliding-window layer looks back; 0 where there is none.
        windowed: per layer, whether it is one; empty for none. `window_key_length` and
            `window_value_length` are theirs where they differ.
        state: values that the recurrent layers together keep for one conversation, whatever its length.
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
        """Return the K and V values of one token in all layers that do, or do not, see a window only."""
        kinds = self.windowed or (False,) * self.layers
        heads = sum(count for count, kind in zip(self.kv_heads, kinds, strict=False) if kind == windowed)
        if windowed:
            return heads * self.window_key_length, heads * self.window_value_length
        return heads * self.key_length, heads * self.value_length


class _Numbers:
    """The values under an architecture's name."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self._metadata = metadata
        self._architecture = architecture

    def get(self, name: str) -> Any:
        return self._metadata.get(f"{self._architecture}.{name}")

    def one(self, name: str, default: int | None = None) -> int:
        value = self.get(name)
        if value is None:
            value = default
        if value is None:
            raise ValueError(f"its header lacks {self._architecture}.{name}")
        if isinstance(value, tuple):
            value = max(value, default=0)
        if int(value) < 0:
            raise ValueError(f"its {self._architecture}.{name} is negative")
        return int(value)

    def each(self, name: str, default: tuple[int, ...], layers: int) -> tuple[int, ...]:
        """Return a value per layer; one value is every layer's."""
        value = self.get(name)
        value = default if value is None else value
        values = tuple(map(int, value)) if isinstance(value, tuple) else (int(value),) * layers
        if any(entry < 0 for entry in values):
            raise ValueError(f"its {self._architecture}.{name} is negative")
        return values


def header_of(metadata: Mapping[str, Any], size: int) -> GgufHeader:
    """Return the shape that the metadata of a GGUF file says.

    Raises:
        ValueError: something needed is missing or cannot be; also TypeError and ArithmeticError.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise ValueError("its header lacks general.architecture")  # noqa: TRY004 - of the file, not of an argument
    numbers = _Numbers(metadata, architecture)
    layers, embedding = numbers.one("block_count"), numbers.one("embedding_length")
    if layers > _MAX_LAYERS:
        raise ValueError(f"{layers} layers in its header")
    heads = numbers.each("attention.head_count", (0,), layers)  # a recurrent model may have none
    widest = max(heads, default=0)
    head_size = embedding // widest if widest else 0
    kv_heads = numbers.each("attention.head_count_kv", heads, layers)
    recurrent = _recurrent(architecture, numbers, layers, kv_heads)
    key_length = numbers.one("attention.key_length", head_size)
    value_length = numbers.one("attention.value_length", head_size)
    if numbers.one("attention.key_length_mla", 0):  # latent attention: V is computed from what K keeps
        value_length = 0
    window, windowed = _windows(architecture, numbers, layers)
    return GgufHeader(
        architecture=architecture,
        size=size,
        layers=layers,
        kv_heads=_with_kv(architecture, numbers, kv_heads, recurrent),
        key_length=key_length,
        value_length=value_length,
        context=numbers.one("context_length", 0),
        vocabulary=int(metadata.get("tokenizer.ggml.tokens", 0)),
        embedding=embedding,
        heads=widest,
        hidden=_hidden(numbers, embedding, widest * key_length),
        window=window,
        windowed=windowed,
        window_key_length=numbers.one("attention.key_length_swa", key_length) if windowed else 0,
        window_value_length=numbers.one("attention.value_length_swa", value_length) if windowed else 0,
        state=sum(recurrent) * _state_values(architecture, numbers, embedding, widest),
    )


def _with_kv(
    architecture: str, numbers: _Numbers, kv_heads: tuple[int, ...], recurrent: tuple[bool, ...]
) -> tuple[int, ...]:
    """Return the KV heads of each layer, 0 for one that keeps no KV cache of its own."""
    layers = len(recurrent)
    shared = numbers.one("attention.shared_kv_layers", 0) + numbers.one("nextn_predict_layers", 0)
    first_without = min(_KV_FROM_START.get(architecture, layers), layers - shared)
    instead = recurrent if architecture not in _RECURRENT_AND_ATTENTION else (False,) * layers
    return tuple(
        0 if number >= first_without or (number < layers and instead[number]) else count
        for number, count in enumerate(kv_heads)
    )


def _windows(architecture: str, numbers: _Numbers, layers: int) -> tuple[int, tuple[bool, ...]]:
    """Return how far sliding-window layers see, and which they are; other architectures ignore the key."""
    window = numbers.one("attention.sliding_window", _WINDOW.get(architecture, 0))
    pattern = numbers.get("attention.sliding_window_pattern")
    if isinstance(pattern, tuple) and pattern:
        kinds = tuple(bool(pattern[number % len(pattern)]) for number in range(layers))
    else:
        period = int(pattern) if isinstance(pattern, int) else _WINDOW_PERIOD.get(architecture, 1)
        full = 0 if architecture in _FULL_FIRST else period - 1
        kinds = tuple(period == 0 or number % period != full for number in range(layers))
    return (window, kinds) if window and any(kinds) else (0, ())


def _recurrent(
    architecture: str, numbers: _Numbers, layers: int, kv_heads: tuple[int, ...]
) -> tuple[bool, ...]:
    """Return for each layer whether it keeps a state."""
    if architecture in _ALL_RECURRENT | _RECURRENT_AND_ATTENTION:
        return (True,) * layers
    if not any(numbers.get(name) for name in ("ssm.inner_size", "shortconv.l_cache", "wkv.head_size")):
        return (False,) * layers
    interval = numbers.one("full_attention_interval", _FULL_ATTENTION_INTERVAL.get(architecture, 0))
    if interval:
        return tuple((number + 1) % interval != 0 for number in range(layers))
    feed_forward = numbers.get("feed_forward_length")
    narrow = feed_forward if isinstance(feed_forward, tuple) else (0,) * layers
    return tuple(not heads and not wide for heads, wide in zip(kv_heads, narrow, strict=False))


def _state_values(architecture: str, numbers: _Numbers, embedding: int, heads: int) -> int:
    """Return the values that one recurrent layer keeps: of its convolution, and of its state."""
    if head := numbers.one("wkv.head_size", 0):
        shifts = numbers.one("token_shift_count", _TOKEN_SHIFTS.get(architecture, 2))
        return embedding * (shifts + head)
    if kept := numbers.one("shortconv.l_cache", 0):
        return embedding * (kept - 1)
    before = max(numbers.one("ssm.conv_kernel", 0) - 1, 0)
    if head := numbers.one("kda.head_dim", 0):
        return head * heads * (3 * before + head)
    inner, state = numbers.one("ssm.inner_size", 0), numbers.one("ssm.state_size", 0)
    return before * (inner + 2 * numbers.one("ssm.group_count", 0) * state) + state * inner


def _hidden(numbers: _Numbers, embedding: int, queries: int) -> int:
    """Return how many values per token the widest step of a layer holds (fitted to measured buffers)."""
    used = numbers.one("expert_used_count", 0)
    return max(
        3 * numbers.one("feed_forward_length", 0) if not used else 0,
        used * (3 * numbers.one("expert_feed_forward_length", 0) + embedding),
        2 * queries,
        5 * numbers.one("ssm.inner_size", 0),
    )

"""A model with random weights: its text is nonsense, but it takes the memory and time of its size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmstack.llama_cpp.tiny.gguf_file import BEGIN, END, Shape, require_numpy, write_gguf
from llmstack.llama_cpp.tiny.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

START = "<|im_start|>"
HEAD = 32
TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""


def write_random(
    path: Path, *, dim: int = 128, layers: int = 2, context: int = 262144, seed: int = 0
) -> None:
    """Write a model with random weights, for measurements and for tests of the prompt cache.

    Args:
        path: the GGUF file.
        dim: width of the model, a multiple of 32. 512 with 24 layers gives about 100 tokens a second.
        layers: number of layers.
        context: context length in tokens that the file declares.
        seed: seed of the random weights.

    Raises:
        LlmstackError: the extra `engine` is not installed, or the file cannot be written.
    """
    np = require_numpy()
    shape = Shape(
        context=context, width=dim, head=HEAD, feed_forward=2 * dim, layers=layers, rope_base=10000.0
    )
    vocabulary = Vocabulary.build((BEGIN, START, END))
    generator = np.random.default_rng(seed)

    def random_matrix(rows: int, columns: int, spread: float) -> Any:
        return (generator.standard_normal((rows, columns), np.float32) * spread).astype(np.float16)

    tokens, hidden = len(vocabulary.tokens), shape.feed_forward
    tensors = {
        "token_embd.weight": random_matrix(tokens, dim, 1.0),
        "output.weight": random_matrix(tokens, dim, 0.3),
        "output_norm.weight": np.ones(dim, np.float32),
    }
    sizes = {
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (dim, dim)),
        **dict.fromkeys(("ffn_gate", "ffn_up"), (hidden, dim)),
        "ffn_down": (dim, hidden),
    }
    for layer in range(layers):
        for name, (rows, columns) in sizes.items():
            tensors[f"blk.{layer}.{name}.weight"] = random_matrix(rows, columns, 0.08)
        for name in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{layer}.{name}.weight"] = np.ones(dim, np.float32)
    write_gguf(
        path,
        name=f"random-{dim}x{layers}",
        shape=shape,
        vocabulary=vocabulary,
        template=TEMPLATE,
        tensors=tensors,
    )

"""Write a GGUF file of the llama architecture from given weights."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmstack.errors import LlmstackError
from llmstack.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from llmstack.llama_cpp.tiny.vocabulary import Vocabulary

BEGIN, END = "<|endoftext|>", "<|im_end|>"  # control tokens of every tiny model


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of a model.

    Attributes:
        context: context length in tokens that the file declares.
        width: width of the residual stream.
        head: width of one attention head; every head has its own keys and values.
        feed_forward: hidden width of a layer's feed-forward block.
        layers: number of layers.
        rope_base: base of the RoPE frequencies.
    """

    context: int
    width: int
    head: int
    feed_forward: int
    layers: int
    rope_base: float


def require_numpy() -> ModuleType:
    """Import numpy and return it.

    Raises:
        LlmstackError: numpy is not installed; the extra `engine` installs it.
    """
    try:
        import numpy as np  # noqa: PLC0415 - slow to import, and optional
    except ImportError as error:
        raise _missing_package(error) from error
    return np


def write_gguf(
    path: Path,
    *,
    name: str,
    shape: Shape,
    vocabulary: Vocabulary,
    template: str,
    tensors: Mapping[str, Any],
) -> None:
    """Write a model in one step, so that no reader sees an incomplete file.

    Args:
        path: the file; its directory is created if it is missing.
        name: the model's name, which llama.cpp shows.
        shape: its dimensions.
        vocabulary: its tokens, BEGIN and END among them.
        template: the chat template, in Jinja.
        tensors: numpy arrays by GGUF name, float16 or float32 (vectors: float32); row = output dimension.

    Raises:
        LlmstackError: gguf or numpy is not installed, or the file cannot be written.
    """
    try:
        import gguf  # noqa: PLC0415 - slow to import, and optional
    except ImportError as error:
        raise _missing_package(error) from error
    with tempfile.TemporaryDirectory(prefix="llmstack-") as scratch:
        draft = Path(scratch) / path.name
        writer = gguf.GGUFWriter(draft, "llama")
        writer.add_name(name)
        _add_shape(writer, shape)
        _add_vocabulary(writer, vocabulary)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        writer.add_chat_template(template)
        for tensor, values in tensors.items():
            writer.add_tensor(tensor, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        write_atomic(path, draft.read_bytes())


def _add_shape(writer: Any, shape: Shape) -> None:
    heads = shape.width // shape.head
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.rope_base)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.ids[BEGIN])
    writer.add_eos_token_id(vocabulary.ids[END])
    writer.add_eot_token_id(vocabulary.ids[END])
    writer.add_add_bos_token(value=False)


def _missing_package(error: ImportError) -> LlmstackError:
    return LlmstackError(
        f"the tiny models are made with gguf and numpy, and {error.name} is not installed",
        hint="pip install 'llmstack-local[engine]'",
    )

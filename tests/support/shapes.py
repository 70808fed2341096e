"""Tiny GGUF models of several architectures, with zeros as weights and typical tensor shapes.

They only have to load, since tests measure the memory that llama.cpp uses for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from llmstack.llama_cpp.tiny.gguf_file import BEGIN, END
from llmstack.llama_cpp.tiny.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HIDDEN = 256, 512
Tensors = dict[str, tuple[int, ...]]  # name after `blk.N.` → shape, output dimension first


def _feed_forward() -> Tensors:
    inputs = {"ffn_gate.weight": (HIDDEN, WIDTH), "ffn_up.weight": (HIDDEN, WIDTH)}
    return {**inputs, "ffn_down.weight": (WIDTH, HIDDEN), "ffn_norm.weight": (WIDTH,)}


def _attention(heads: int, kv_heads: int, head: int, *, gated: bool = False) -> Tensors:
    return {
        "attn_norm.weight": (WIDTH,),
        "attn_q.weight": (heads * head * (2 if gated else 1), WIDTH),
        "attn_k.weight": (kv_heads * head, WIDTH),
        "attn_v.weight": (kv_heads * head, WIDTH),
        "attn_output.weight": (WIDTH, heads * head),
    }


def _head_norms(head: int) -> Tensors:
    return {"attn_q_norm.weight": (head,), "attn_k_norm.weight": (head,)}


def write(
    path: Path,
    architecture: str,
    keys: dict[str, Any],
    layers: list[Tensors],
    output_tensors: Tensors | None = None,
) -> None:
    """Write a model.

    Args:
        path: the file.
        architecture: prefix of the keys.
        keys: metadata without the prefix.
        layers: the tensors of each block.
        output_tensors: tensors outside the blocks; the output norm if None.
    """
    vocabulary = Vocabulary.build((BEGIN, END))
    writer = gguf.GGUFWriter(path, architecture)
    common = {
        "block_count": len(layers),
        "embedding_length": WIDTH,
        "context_length": 131072,
        "feed_forward_length": HIDDEN,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    for name, value in {**common, **keys}.items():
        key = f"{architecture}.{name}"
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.ids[END])
    tensors = {
        "token_embd.weight": (len(vocabulary.tokens), WIDTH),
        **(output_tensors or {"output_norm.weight": (WIDTH,)}),
    }
    for number, layer in enumerate(layers):
        tensors |= {f"blk.{number}.{name}": shape for name, shape in layer.items()}
    for name, shape in tensors.items():
        single = len(shape) == 1 or "conv" in name or name.endswith(("ssm_a", "ffn_gate_inp.weight"))
        writer.add_tensor(name, np.zeros(shape, np.float32 if single else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama(path: Path, *, heads: int = 8, kv_heads: int = 2, head: int = 64, layers: int = 3) -> None:
    """Write a model with full grouped-query attention."""
    keys = {
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.dimension_count": head,
    }
    write(path, "llama", keys, [_attention(heads, kv_heads, head) | _feed_forward()] * layers)


def gemma3(path: Path, *, window: int = 512, layers: int = 7) -> None:
    """Write a model with a sliding window in five layers out of six."""
    keys = {
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 64,
        "attention.value_length": 64,
        "attention.sliding_window": window,
    }
    post_norms = {"post_attention_norm.weight": (WIDTH,), "post_ffw_norm.weight": (WIDTH,)}
    write(
        path, "gemma3", keys, [_attention(4, 2, 64) | _head_norms(64) | _feed_forward() | post_norms] * layers
    )


def mamba(path: Path, *, layers: int = 4) -> None:
    """Write a model with a state per slot instead of a KV cache."""
    inner, state, rank, kernel = 2 * WIDTH, 16, 16, 4
    keys = {
        "ssm.conv_kernel": kernel,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
        "attention.head_count": 0,
    }
    layer = {
        "attn_norm.weight": (WIDTH,),
        "ssm_in.weight": (2 * inner, WIDTH),
        "ssm_conv1d.weight": (inner, kernel),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (rank + 2 * state, inner),
        "ssm_dt.weight": (inner, rank),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, state),
        "ssm_d": (inner,),
        "ssm_out.weight": (WIDTH, inner),
    }
    write(path, "mamba", keys, [layer] * layers)


def lfm2(path: Path) -> None:
    """Write a model with short convolutions, and attention in the layers that have KV heads."""
    kv_heads = [0, 0, 2, 0, 2]
    keys = {"attention.head_count": 4, "attention.head_count_kv": kv_heads, "shortconv.l_cache": 3}
    convolution = {
        "attn_norm.weight": (WIDTH,),
        "shortconv.conv.weight": (WIDTH, 3),
        "shortconv.in_proj.weight": (3 * WIDTH, WIDTH),
        "shortconv.out_proj.weight": (WIDTH, WIDTH),
    }
    attention = _attention(4, 2, 64) | _head_norms(64)
    layers = [(attention if heads else convolution) | _feed_forward() for heads in kv_heads]
    write(path, "lfm2", keys, layers, {"token_embd_norm.weight": (WIDTH,)})


def qwen3next(path: Path) -> None:
    """Write a model of experts with attention in every fourth layer and a delta-net state in the others."""
    heads, kv_heads, head = 4, 2, 64
    groups, state, ranks, kernel = 2, 32, 4, 4
    inner = ranks * state
    keys = {
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.dimension_count": 16,
        "expert_count": 4,
        "expert_used_count": 2,
        "expert_feed_forward_length": 64,
        "expert_shared_feed_forward_length": 64,
        "ssm.conv_kernel": kernel,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": ranks,
        "ssm.group_count": groups,
    }
    linear = {
        "attn_norm.weight": (WIDTH,),
        "attn_qkv.weight": (2 * groups * state + inner, WIDTH),
        "attn_gate.weight": (inner, WIDTH),
        "ssm_conv1d.weight": (2 * groups * state + inner, kernel),
        "ssm_dt.bias": (ranks,),
        "ssm_a": (ranks,),
        "ssm_ba.weight": (2 * ranks, WIDTH),
        "ssm_norm.weight": (state,),
        "ssm_out.weight": (WIDTH, inner),
    }
    experts = {
        "post_attention_norm.weight": (WIDTH,),
        "ffn_gate_inp.weight": (4, WIDTH),
        "ffn_gate_exps.weight": (4, 64, WIDTH),
        "ffn_up_exps.weight": (4, 64, WIDTH),
        "ffn_down_exps.weight": (4, WIDTH, 64),
        "ffn_gate_inp_shexp.weight": (WIDTH,),
        "ffn_gate_shexp.weight": (64, WIDTH),
        "ffn_up_shexp.weight": (64, WIDTH),
        "ffn_down_shexp.weight": (WIDTH, 64),
    }
    attention = _attention(heads, kv_heads, head, gated=True) | _head_norms(head)
    write(path, "qwen3next", keys, [(attention if i % 4 == 3 else linear) | experts for i in range(8)])


def deepseek2(path: Path, *, layers: int = 3) -> None:
    """Write a model with multi-head latent attention: one compressed vector per token, no V cache."""
    heads, rank, rope, nope, value = 4, 128, 32, 32, 32
    keys = {
        "attention.head_count": heads,
        "attention.head_count_kv": 1,
        "attention.key_length": rank + rope,
        "attention.value_length": rank,
        "attention.key_length_mla": nope + rope,
        "attention.value_length_mla": value,
        "attention.kv_lora_rank": rank,
        "attention.q_lora_rank": 128,
        "rope.dimension_count": rope,
        "leading_dense_block_count": layers,
        "expert_count": 4,
        "expert_used_count": 2,
        "expert_shared_count": 1,
        "expert_feed_forward_length": 64,
        "expert_weights_scale": 1.0,
        "expert_gating_func": 1,
    }
    layer = {
        "attn_norm.weight": (WIDTH,),
        "attn_q_a.weight": (128, WIDTH),
        "attn_q_a_norm.weight": (128,),
        "attn_q_b.weight": (heads * (nope + rope), 128),
        "attn_kv_a_mqa.weight": (rank + rope, WIDTH),
        "attn_kv_a_norm.weight": (rank,),
        "attn_k_b.weight": (heads, rank, nope),
        "attn_v_b.weight": (heads, value, rank),
        "attn_output.weight": (WIDTH, heads * value),
    }
    write(path, "deepseek2", keys, [layer | _feed_forward()] * layers)

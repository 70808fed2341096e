"""A models.ini with every key, and the problems of invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.config import parse
from llmstack.errors import ConfigError, Problem

BASE = Path("/project/.llmstack")

EVERYTHING = """\
[DEFAULT]
host = 0.0.0.0
router_port = 20101
swap_port = 20102
litellm_port = 20103
start_port = 20001
swapper = builtin
memory_gb = 48
api_key_env = MY_KEY
allowed_hosts = host.docker.internal
kv_cache_gb = 20
ctx_size = 32k
max_output_tokens = 4k
ttl = 20m
n_gpu_layers = 99
parallel = 4
cache_ram_gb = 2
flash_attn = auto
jinja = no
threads = 8
cache_type_k = f16
cache_type_v = bf16

[ROUTING]
high_fidelity_ceiling = 8k
mid_fidelity_ceiling = 16k
multi_turn = 5
ultra_triggers = [big], please:
sticky = false
while_loading = resident

[Hub.1]
tier = code
role = fast
aliases = quick, q/1
hf_repo = own/repo-GGUF
hf_file = a-Q4.gguf
quant = Q4
size_gb = 1.5
hf_repo_next = own/other-GGUF
hf_file_next = a-Q5.gguf
quant_next = Q5
size_gb_next = 2
ctx_size = 64k
parallel = 1
n_gpu_layers = auto
sampler = temp=0.2
rope_scaling = yarn(scale=2, orig_ctx=32k)
chat_template = chatml
extra_args = --no-warmup
ttl = 0
fallback = local, talk
description = the first; one
serves = embedding
modalities = text, image

[local]
path = ../weights/b.gguf

[served]
role = agent
model = ollama/qwen3:30b
model_next = vllm/qwen3
base_url = http://10.0.0.5:11434

[cloud]
role = ultra
model = bedrock/eu.anthropic.opus
model_next = anthropic/opus
max_output_tokens = 8k

[direct]
backend = server
model = anthropic/sonnet
model_next = ollama/qwen3

[proxied]
backend = litellm
model = ollama/qwen3

[tool]
backend = mcp
aliases = talk
command = llmstack mcp
tool = ask
"""


def problems(text: str) -> list[Problem]:
    """Return the problems of an invalid models.ini."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "m.ini", base=BASE)
    return list(caught.value.problems)

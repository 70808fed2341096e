"""Flags and environment of a model server, the same for a native llama-server and the bundled one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.config.model import EngineSettings, Sampler, Tier

# Variables that would change what llama.cpp does, and secrets that a model server does not need.
_ENV_DENYLIST = re.compile(
    r"LLAMA_.*|AWS_.*|(.*_)?(KEY|KEYS|APIKEY|TOKEN|TOKENS|SECRET|SECRETS|PASSWORD|PASSWD|CREDENTIALS)",
    re.IGNORECASE,
)
_SAMPLER_FLAGS = {
    "temp": "--temp",
    "top_p": "--top-p",
    "top_k": "--top-k",
    "min_p": "--min-p",
    "rep_pen": "--repeat-penalty",
}
MIB_PER_GB = 1024
CORS_ORIGIN = "http://127.0.0.1"  # instead of `*`: no web page may read responses


def server_flags(tier: Tier, model: Path) -> tuple[str, ...]:
    """Return llama-server's flags for a gguf tier, without those that say where it listens.

    A tier's `ctx_size` is for one request, llama.cpp's `--ctx-size` for all slots together. An explicit
    `--parallel` also splits the KV cache between the slots; with one shared cache, two requests that do not
    fit together would both fail.

    Args:
        tier: the tier.
        model: path of the GGUF file.
    """
    engine = tier.engine
    flags = [
        *("--model", str(model), "--alias", tier.name),
        *("--ctx-size", str(tier.ctx_size * engine.parallel), "--parallel", str(engine.parallel)),
        *("--flash-attn", engine.flash_attn),
        *("--cache-type-k", engine.cache_type_k, "--cache-type-v", engine.cache_type_v),
        *("--cache-ram", str(round(engine.cache_ram_gb * MIB_PER_GB))),
        "--metrics",
        "--jinja" if engine.jinja else "--no-jinja",
    ]
    if engine.n_gpu_layers is not None:
        flags += ["--n-gpu-layers", str(engine.n_gpu_layers)]
    if engine.threads > 0:
        flags += ["--threads", str(engine.threads)]
    flags += _task_flags(tier)
    flags += [*_rope_flags(engine), *_template_flags(engine), *_sampler_flags(tier.sampler)]
    return (*flags, *engine.extra_args)


def _task_flags(tier: Tier) -> list[str]:
    """Return the flags that make a server embed or rerank instead of chat.

    An embedding model's pooling is read from its file; `extra_args = --pooling …` overrides it. Each input
    must fit into one batch, so the batch is as large as the context window.
    """
    if tier.serves == "chat":
        return []
    batch = ["--batch-size", str(tier.ctx_size), "--ubatch-size", str(tier.ctx_size)]
    return ["--embeddings", *(["--pooling", "rank"] if tier.serves == "rerank" else []), *batch]


def _rope_flags(engine: EngineSettings) -> list[str]:
    rope = engine.rope_scaling
    if rope is None:
        return []
    flags = ["--rope-scaling", rope.kind, "--rope-scale", str(rope.scale)]
    return [*flags, "--yarn-orig-ctx", str(rope.orig_ctx)] if rope.kind == "yarn" else flags


def _template_flags(engine: EngineSettings) -> list[str]:
    template = engine.chat_template
    if template is None:
        return []
    is_jinja = "{{" in template or "{%" in template
    is_file = not is_jinja and ("/" in template or template.endswith(".jinja"))
    return ["--chat-template-file" if is_file else "--chat-template", template]


def _sampler_flags(sampler: Sampler) -> list[str]:
    flags = []
    for name, flag in _SAMPLER_FLAGS.items():
        value = getattr(sampler, name)
        if value is not None:
            flags += [flag, str(value)]
    return flags


def server_env(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` as a model server gets it: without secrets."""
    allowed = {name: value for name, value in env.items() if not _ENV_DENYLIST.fullmatch(name)}
    # A variable, not a flag: older versions ignore variables that they do not know.
    return {**allowed, "LLAMA_ARG_CORS_ORIGINS": CORS_ORIGIN, "PYTHONUNBUFFERED": "1"}

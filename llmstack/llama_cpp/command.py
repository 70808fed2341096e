"""Flags and environment of one model server: the same for a native llama-server and the bundled one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.config.model import EngineSettings, Sampler, Tier

# Variables that would change what llama.cpp does, and secrets that a model server has no use for.
_KEPT_FROM_SERVERS = re.compile(
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
NO_PAGE = "http://127.0.0.1"  # instead of any origin: no web page may read an answer


def server_flags(tier: Tier, model: Path, *, host: str, port: int | str) -> tuple[str, ...]:
    """Return llama-server's flags for a gguf tier; `port` may be a placeholder that llama-swap fills in.

    `ctx_size` is for one request, llama.cpp's `-c` for all slots together. A fixed `-np` also splits the
    KV cache between the slots; with one shared cache, two requests that do not fit together both fail.
    """
    engine = tier.engine
    flags = [
        *("--model", str(model), "--alias", tier.name, "--host", host, "--port", str(port)),
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
    """Return what makes a model server embed or rerank; it does nothing else then.

    How an embedding model pools says its file; `extra_args = --pooling …` overrides it. Such an input is read
    in one batch, so the batch is as large as the window.
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
    written_out = "{{" in template or "{%" in template
    is_file = not written_out and ("/" in template or template.endswith(".jinja"))
    return ["--chat-template-file" if is_file else "--chat-template", template]


def _sampler_flags(sampler: Sampler) -> list[str]:
    flags = []
    for name, flag in _SAMPLER_FLAGS.items():
        value = getattr(sampler, name)
        if value is not None:
            flags += [flag, str(value)]
    return flags


def server_env(env: Mapping[str, str], *, api_key: str | None) -> dict[str, str]:
    """Return the environment of a model server: ours, scrubbed, with the key it must ask for, if any."""
    kept = {name: value for name, value in env.items() if not _KEPT_FROM_SERVERS.fullmatch(name)}
    key = {} if api_key is None else {"LLAMA_API_KEY": api_key}
    # A variable, not a flag: older versions pass over one that they do not know.
    return {**kept, **key, "LLAMA_ARG_CORS_ORIGINS": NO_PAGE, "PYTHONUNBUFFERED": "1"}

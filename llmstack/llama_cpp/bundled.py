"""The server of the `engine` extra: `python -m llmstack.llama_cpp.bundled FLAGS…`, one process per model.

xllamacpp contains llama.cpp's own HTTP server. This module gives it the flags of llama-server that
`llama_cpp.command` uses, and a few more, through public attributes only. As llama-server does, it reads the
key that clients must send from LLAMA_API_KEY, and the path prefix of all endpoints from LLAMA_ARG_API_PREFIX.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from llmstack.kv_types import KV_TYPES
from llmstack.llama_cpp.command import CORS_ORIGIN
from llmstack.llama_cpp.parent_watch import take_watch_mode, watch_parent

if TYPE_CHECKING:
    from collections.abc import Callable


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-server (bundled)", allow_abbrev=False)
    add = parser.add_argument
    add("-m", "--model", required=True)
    add("-a", "--alias")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8080)
    add("-c", "--ctx-size", type=int)
    add("-np", "--parallel", type=int, default=1)
    add("-ngl", "--n-gpu-layers", "--gpu-layers", type=int)
    add("-t", "--threads", type=int, default=-1)
    add("-b", "--batch-size", type=int)
    add("-ub", "--ubatch-size", type=int)
    add("-fa", "--flash-attn", choices=("on", "off", "auto"), default="auto")
    add("-ctk", "--cache-type-k", choices=KV_TYPES, default="f16")
    add("-ctv", "--cache-type-v", choices=KV_TYPES, default="f16")
    add("-cram", "--cache-ram", type=int)
    add("--ctx-checkpoints", type=int)
    add("--rope-scaling", choices=("none", "linear", "yarn"))
    add("--rope-scale", type=float)
    add("--yarn-orig-ctx", type=int)
    add("--temp", type=float)
    add("--top-p", type=float)
    add("--top-k", type=int)
    add("--min-p", type=float)
    add("--repeat-penalty", type=float)
    add("--chat-template")
    add("--chat-template-file", type=Path)
    add("--slot-save-path")
    add("--jinja", action="store_true")
    add("--no-jinja", action="store_true")
    add("--embeddings", "--embedding", action="store_true")
    add("--pooling", choices=("none", "mean", "cls", "last", "rank"))
    add("--metrics", action="store_true")
    add("--no-warmup", action="store_true")
    return parser


def _flash_attention(xllamacpp: Any, value: str) -> Any:
    kinds = xllamacpp.llama_flash_attn_type
    return {
        "on": kinds.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": kinds.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        "auto": kinds.LLAMA_FLASH_ATTN_TYPE_AUTO,
    }[value]


def _rope_scaling(xllamacpp: Any, value: str) -> Any:
    return getattr(xllamacpp.llama_rope_scaling_type, f"LLAMA_ROPE_SCALING_TYPE_{value.upper()}")


def _kv_type(xllamacpp: Any, value: str) -> Any:
    return getattr(xllamacpp.ggml_type, f"GGML_TYPE_{value.upper()}")


def _pooling(xllamacpp: Any, value: str) -> Any:
    return getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{value.upper()}")


# option → (attribute of CommonParams, conversion); without the option llama.cpp's default stays
ATTRIBUTES: dict[str, tuple[str, Callable[[Any, Any], Any] | None]] = {
    "port": ("port", None),
    "ctx_size": ("n_ctx", None),
    "parallel": ("n_parallel", None),
    "n_gpu_layers": ("n_gpu_layers", None),
    "batch_size": ("n_batch", None),
    "ubatch_size": ("n_ubatch", None),
    "flash_attn": ("flash_attn_type", _flash_attention),
    "cache_type_k": ("cache_type_k", _kv_type),
    "cache_type_v": ("cache_type_v", _kv_type),
    "cache_ram": ("cache_ram_mib", None),
    "ctx_checkpoints": ("n_ctx_checkpoints", None),
    "rope_scaling": ("rope_scaling_type", _rope_scaling),
    "rope_scale": ("rope_freq_scale", lambda _, scale: 1 / scale),
    "yarn_orig_ctx": ("yarn_orig_ctx", None),
    "pooling": ("pooling_type", _pooling),
    "chat_template": ("chat_template", None),
    "slot_save_path": ("slot_save_path", lambda _, path: os.path.join(path, "")),  # noqa: PTH118 - llama.cpp requires the trailing separator
}
SAMPLING_ATTRIBUTES = {
    "temp": "temp",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "penalty_repeat",
}


def _params(xllamacpp: Any, options: argparse.Namespace, api_key: str) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias} if options.alias else set()
    params.hostnames = [options.host]
    for option, (attribute, convert) in ATTRIBUTES.items():
        value = getattr(options, option)
        if value is not None:
            setattr(params, attribute, convert(xllamacpp, value) if convert else value)
    for option, attribute in SAMPLING_ATTRIBUTES.items():
        value = getattr(options, option)
        if value is not None:
            setattr(params.sampling, attribute, value)
    threads = options.threads if options.threads > 0 else (os.cpu_count() or 1)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    if options.chat_template_file:
        params.chat_template = options.chat_template_file.read_text(encoding="utf-8")
    params.use_jinja = not options.no_jinja
    params.embedding = options.embeddings
    params.endpoint_metrics = options.metrics
    params.warmup = not options.no_warmup
    params.kv_unified = False  # with a unified cache, two requests that do not fit together would both fail
    params.cors_origins = CORS_ORIGIN
    params.ui = False
    params.api_prefix = os.environ.pop("LLAMA_ARG_API_PREFIX", "")
    if api_key:
        params.api_keys = [api_key]
    return params


def main() -> NoReturn:
    """Load the model and serve it until SIGTERM or until the parent has ended."""
    options = _parser().parse_args()
    if not Path(options.model).is_file():
        # Checked here because llama.cpp's own error names neither the file nor the reason.
        sys.exit(f"error: {options.model}: expected a GGUF file")
    # Has an effect before and after loading only: loading holds the interpreter lock.
    watch_parent(take_watch_mode(), lambda: os._exit(0))
    os.umask(0o077)  # saved prompt caches contain conversations
    import xllamacpp  # noqa: PLC0415 - slow, so only after the flags are checked

    try:
        _server = xllamacpp.Server(_params(xllamacpp, options, os.environ.pop("LLAMA_API_KEY", "")))
    except Exception as error:  # noqa: BLE001 - whatever xllamacpp raises, the log must show the reason
        sys.exit(f"error: {error}")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: None)
    os.read(reader, 1)
    # Deleting the server during a stream takes 30 s (measured); the kernel closes everything immediately.
    os._exit(0)


if __name__ == "__main__":
    main()

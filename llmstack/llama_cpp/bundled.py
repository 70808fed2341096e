"""llama-server from the `engine` extra: `python -m llmstack.llama_cpp.bundled FLAGS…`, one process per model.

xllamacpp contains llama.cpp's own HTTP server; this gives it llama-server's flags, as far as
`engine.command` uses them and a few more, through public attributes only. The key that clients must send
is read from LLAMA_API_KEY, the path that everything is served below from LLAMA_ARG_API_PREFIX, as
llama-server does.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from llmstack.kv_types import KV_TYPES
from llmstack.llama_cpp.command import NO_PAGE
from llmstack.llama_cpp.parent_watch import hold_on, take_lifeline

if TYPE_CHECKING:
    from collections.abc import Callable


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-server (bundled)", allow_abbrev=False)
    text, switch = parser.add_argument, ("on", "off", "auto")
    text("-m", "--model", required=True)
    text("-a", "--alias")
    text("--host", default="127.0.0.1")
    text("--port", type=int, default=8080)
    text("-c", "--ctx-size", type=int)
    text("-np", "--parallel", type=int, default=1)
    text("-ngl", "--n-gpu-layers", "--gpu-layers", type=int)
    text("-t", "--threads", type=int, default=-1)
    text("-b", "--batch-size", type=int)
    text("-ub", "--ubatch-size", type=int)
    text("-fa", "--flash-attn", choices=switch, default="auto")
    text("-ctk", "--cache-type-k", choices=KV_TYPES, default="f16")
    text("-ctv", "--cache-type-v", choices=KV_TYPES, default="f16")
    text("-cram", "--cache-ram", type=int)
    text("--ctx-checkpoints", type=int)
    text("--rope-scaling", choices=("none", "linear", "yarn"))
    text("--rope-scale", type=float)
    text("--yarn-orig-ctx", type=int)
    text("--temp", type=float)
    text("--top-p", type=float)
    text("--top-k", type=int)
    text("--min-p", type=float)
    text("--repeat-penalty", type=float)
    text("--chat-template")
    text("--chat-template-file", type=Path)
    text("--slot-save-path")
    text("--jinja", action="store_true")
    text("--no-jinja", action="store_true")
    text("--embeddings", "--embedding", action="store_true")
    text("--pooling", choices=("none", "mean", "cls", "last", "rank"))
    text("--metrics", action="store_true")
    text("--no-warmup", action="store_true")
    return parser


def _flash_attention(x: Any, value: str) -> Any:
    kinds = x.llama_flash_attn_type
    return {
        "on": kinds.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": kinds.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        "auto": kinds.LLAMA_FLASH_ATTN_TYPE_AUTO,
    }[value]


def _rope_scaling(x: Any, value: str) -> Any:
    return getattr(x.llama_rope_scaling_type, f"LLAMA_ROPE_SCALING_TYPE_{value.upper()}")


def _kv_type(x: Any, value: str) -> Any:
    return getattr(x.ggml_type, f"GGML_TYPE_{value.upper()}")


def _pooling(x: Any, value: str) -> Any:
    return getattr(x.llama_pooling_type, f"LLAMA_POOLING_TYPE_{value.upper()}")


# option → (attribute of CommonParams, conversion); an option that was not given keeps llama.cpp's default
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
    "rope_scale": ("rope_freq_scale", lambda _x, scale: 1 / scale),
    "yarn_orig_ctx": ("yarn_orig_ctx", None),
    "pooling": ("pooling_type", _pooling),
    "chat_template": ("chat_template", None),
    "slot_save_path": ("slot_save_path", lambda _x, path: os.path.join(path, "")),  # noqa: PTH118 - llama.cpp wants the trailing separator
}
SAMPLING = {
    "temp": "temp",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "penalty_repeat",
}


def _params(x: Any, options: argparse.Namespace, api_key: str) -> Any:
    params = x.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias} if options.alias else set()
    params.hostnames = [options.host]
    for option, (attribute, convert) in ATTRIBUTES.items():
        value = getattr(options, option)
        if value is not None:
            setattr(params, attribute, convert(x, value) if convert else value)
    for option, attribute in SAMPLING.items():
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
    params.kv_unified = False  # unified, two requests that do not fit together would both fail
    params.cors_origins = NO_PAGE
    params.ui = False
    params.api_prefix = os.environ.pop("LLAMA_ARG_API_PREFIX", "")
    if api_key:
        params.api_keys = [api_key]
    return params


def main() -> NoReturn:
    """Load the model, serve until SIGTERM or until the parent is gone."""
    options = _parser().parse_args()
    if not Path(options.model).is_file():
        sys.exit(
            f"error: {options.model}: expected a GGUF file"
        )  # llama.cpp would name neither file nor reason
    hold_on(
        take_lifeline(), lambda: os._exit(0)
    )  # acts before or after loading, which holds the interpreter lock
    os.umask(0o077)  # saved prompts are conversations
    import xllamacpp as x  # noqa: PLC0415 - after the flags were checked

    try:
        _server = x.Server(_params(x, options, os.environ.pop("LLAMA_API_KEY", "")))
    except Exception as error:  # noqa: BLE001 - whatever the library raises, the reason goes to the log
        sys.exit(f"error: {error}")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: None)
    os.read(reader, 1)
    # Deleting the server with a stream in flight takes 30 s (measured); the kernel closes everything at once.
    os._exit(0)


if __name__ == "__main__":
    main()

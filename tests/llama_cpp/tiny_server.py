"""Serves one GGUF with two slots until killed: `tiny_server.py MODEL KV_TYPE`; prints its port when ready."""

from __future__ import annotations

import signal
import socket
import sys

import xllamacpp as llama

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
params = llama.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = port
params.ui = False
params.use_jinja = True
params.n_ctx = 65536
params.n_parallel = 2
params.kv_unified = False
params.cache_ram_mib = 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # tests run side by side
params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
params.cache_type_k = params.cache_type_v = getattr(llama.ggml_type, f"GGML_TYPE_{sys.argv[2].upper()}")
server = llama.Server(params)  # returns once the model is loaded
print(port, flush=True)
signal.pause()

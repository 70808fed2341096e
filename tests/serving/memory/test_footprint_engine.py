"""The estimated memory compared with what llama.cpp logs, for tiny models of many architectures."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support import shapes
from support.net import free_port

from llmstack.config.model import EngineSettings
from llmstack.llama_cpp.gguf_header import read_header
from llmstack.serving.memory.footprint import compute_bytes, kv_bytes
from llmstack.units import MB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.engine

LOADER = """
import os, sys
import xllamacpp as x
path, port, ctx, parallel, key, value, flash = sys.argv[1:]
p = x.CommonParams()
p.model.path, p.port, p.hostnames, p.verbosity, p.warmup = path, int(port), ["127.0.0.1"], 4, False
p.n_ctx, p.n_parallel, p.kv_unified = int(ctx) * int(parallel), int(parallel), False
p.cache_type_k = getattr(x.ggml_type, f"GGML_TYPE_{key.upper()}")
p.cache_type_v = getattr(x.ggml_type, f"GGML_TYPE_{value.upper()}")
kind = "DISABLED" if flash == "off" else "ENABLED"
p.flash_attn_type = getattr(x.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{kind}")
server = x.Server(p)
os._exit(0)
"""


class Case(NamedTuple):
    write: Callable[[Path], None]
    ctx_size: int = 4096
    parallel: int = 2
    key: str = "q8_0"
    value: str = "q8_0"
    flash: str = "on"


CASES = {
    "llama": Case(shapes.llama),
    "llama-odd-context": Case(shapes.llama, ctx_size=5000, parallel=4),
    "llama-one-slot": Case(shapes.llama, ctx_size=20_000, parallel=1, key="f16", value="f16"),
    "llama-many-heads": Case(partial(shapes.llama, heads=16, kv_heads=16, head=32), key="f16"),
    "llama-one-kv-head": Case(partial(shapes.llama, heads=4, kv_heads=1, head=128), value="q4_0", key="q4_0"),
    "llama-wide-heads": Case(partial(shapes.llama, heads=4, kv_heads=2, head=256), key="q5_1", value="q4_1"),
    "llama-no-flash": Case(shapes.llama, key="f16", value="f16", flash="off"),
    "gemma3-window": Case(shapes.gemma3, ctx_size=8192),
    "gemma3-short": Case(shapes.gemma3, ctx_size=600, parallel=4, key="f16", value="f16"),
    "mamba": Case(shapes.mamba),
    "lfm2": Case(shapes.lfm2, parallel=4),
    "qwen3next": Case(shapes.qwen3next, ctx_size=10_000, parallel=3),
    "deepseek2": Case(shapes.deepseek2, key="f16", value="f16"),
}


def measure(path: Path, case: Case) -> dict[str, float]:
    """Load the model with llama.cpp and return the sizes from its log, in MiB."""
    argv = [
        str(path),
        str(free_port()),
        str(case.ctx_size),
        str(case.parallel),
        case.key,
        case.value,
        case.flash,
    ]
    process = subprocess.run(
        [sys.executable, "-c", LOADER, *argv], capture_output=True, text=True, timeout=60, check=False
    )
    log = process.stdout + process.stderr
    assert process.returncode == 0, log[-2000:]

    def last(pattern: str) -> float:
        # The model is loaded twice: first a dry run without memory, which logs 0 for some sizes.
        log_of_the_load = log[log.rindex("print_info: file size") :]
        return sum(map(float, re.findall(pattern, log_of_the_load)))

    return {
        "weights": last(r"model buffer size = +([\d.]+) MiB"),
        # The log rounds to 0.01 MiB, for states and KV caches alike; each value is the sum of its layers.
        "kv": last(r"(?:kv_cache|recurrent): size = +([\d.]+) MiB"),
        "compute": last(r"(?:compute|output) buffer size = +([\d.]+) MiB"),
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_estimate_matches_what_llama_cpp_allocates(
    tmp_path: Path, case: Case, record_property: Callable[..., None]
) -> None:
    path = tmp_path / "model.gguf"
    case.write(path)
    header = read_header(path)
    engine = EngineSettings(
        parallel=case.parallel,
        cache_type_k=case.key,
        cache_type_v=case.value,
        flash_attn="off" if case.flash == "off" else "on",
    )
    actual = measure(path, case)
    predicted = {
        "weights": header.size / MB,
        "kv": kv_bytes(header, engine, case.ctx_size) / MB,
        "compute": compute_bytes(header, engine, case.ctx_size) / MB,
    }
    for name, value in predicted.items():
        record_property(name, f"{value:.2f} predicted, {actual[name]:.2f} MiB measured")
    assert predicted["weights"] == pytest.approx(actual["weights"], rel=0.05)
    assert predicted["kv"] == pytest.approx(actual["kv"], rel=0.05, abs=0.011)
    assert predicted["compute"] == pytest.approx(actual["compute"], rel=0.15)

"""Headers that are made to exhaust memory or time are read at a bounded cost."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.gguf import gguf, llama, raw
from support.hostile_gguf import HOSTILE, long_strings
from support.peak_memory import needs_proc

from llmstack.config.model import GgufModel
from llmstack.errors import LlmstackError
from llmstack.llama_cpp import gguf_header
from llmstack.llama_cpp.gguf_header import read_header
from llmstack.llama_cpp.weights import find_weights, shards

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1024 * 1024


@pytest.mark.parametrize("write", HOSTILE, ids=lambda write: write.__name__)
def test_a_hostile_header_costs_little_memory_and_time(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "model.gguf"
    write(path)
    start = time.process_time()
    if write is long_strings:  # like a chat template: skipped
        assert read_header(path).layers == 3
    else:
        with pytest.raises(LlmstackError, match="expected a GGUF model: "):
            read_header(path)
    assert time.process_time() - start < 8  # half a second, and several times that with coverage
    path.unlink()


READER = """
import sys
from pathlib import Path
from support.peak_memory import peak_bytes
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.gguf_header import read_header
before = peak_bytes()
try:
    read_header(Path(sys.argv[1]))
except LlmstackError:
    pass
print(peak_bytes() - before)
"""


@needs_proc
@pytest.mark.parametrize("write", HOSTILE, ids=lambda write: write.__name__)
def test_a_process_that_reads_a_hostile_header_grows_by_less_than_60_mb(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "model.gguf"
    write(path)
    argv = [sys.executable, "-c", READER, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 60 * MB
    path.unlink()


def test_the_limits_leave_room_for_the_largest_vocabularies(tmp_path: Path) -> None:
    # Twice the tokens of Gemma 3, with two merges for each of them, and the entries of 1000 layers.
    tokens, layers = 2 * 262_144, 1000
    merges = struct.pack("<IQ", 8, 2 * tokens) + b"".join(raw(f"a{n:07}") for n in range(2 * tokens))
    vocabulary = struct.pack("<IQ", 8, tokens) + b"".join(raw(f"token{n:09}") for n in range(tokens))
    per_layer = {f"llama.x{n}": (9, struct.pack("<IQ", 4, layers) + bytes(4 * layers)) for n in range(100)}
    path = tmp_path / "model.gguf"
    template = (8, raw("x" * MB))
    entries = llama(tokenizer__ggml__tokens=(9, vocabulary), merges=(9, merges), template=template)
    path.write_bytes(gguf(per_layer | entries))
    assert read_header(path).vocabulary == tokens


def test_a_header_that_arrives_too_slowly_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(llama()))
    monkeypatch.setattr(gguf_header, "READ_S", -1.0)
    with pytest.raises(LlmstackError, match=f"cannot read {path}: reading its header takes longer than"):
        read_header(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_pipe_or_a_device_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe.gguf", tmp_path / "zero.gguf"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    for path in (pipe, link, tmp_path):
        with pytest.raises(LlmstackError, match=f"cannot read {path}: it is not a regular file"):
            read_header(path)
        assert find_weights(GgufModel(path=path), {}) is None


def test_a_name_with_impossibly_many_parts_is_a_single_file(tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-99999.gguf"
    assert shards(path) == [path]
    assert len(shards(tmp_path / "m-00001-of-01000.gguf")) == 1000

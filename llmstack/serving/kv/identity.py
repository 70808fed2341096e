"""The identity of a model server's prompt caches: one digest of everything that makes a saved cache valid."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.config.model import Sampler
from llmstack.llama_cpp.command import server_flags
from llmstack.llama_cpp.weights import shards

if TYPE_CHECKING:
    from llmstack.config.model import Tier
    from llmstack.llama_cpp.binary import EngineBinary

SAMPLES, SAMPLE_BYTES = 16, 64 * 1024
HEADER_BYTES = 1024 * 1024
_WORDS = re.compile(r"[=,]|:(?=[\d.]+$)")  # `--lora=FILE`, `FILE,FILE`, `FILE:0.5`


@dataclass(frozen=True, slots=True)
class KvDirectory:
    """Where a model server saves the contents of its slots.

    Attributes:
        identity: stands for everything that makes a file valid; the directory's name.
        path: the directory that the server writes to and reads from.
        model: label of the model, for people.
        max_bytes: upper bound of one file: a slot with a full context.
        token_bytes: about what one token takes.
    """

    identity: str
    path: Path
    model: str
    max_bytes: int
    token_bytes: int


def kv_identity(tier: Tier, weights: Path, engine: EngineBinary) -> str:
    """Return the identity of the caches that a tier's server writes.

    It covers the whole command line, except what does not affect a cache: sampling, templates (a cache holds
    tokens), threads, paths and addresses.
    """
    settings = replace(tier.engine, threads=-1, cache_ram_gb=0.0, chat_template=None, jinja=True)
    plain = replace(tier, name="", sampler=Sampler(), engine=settings)
    parts = {
        "flags": server_flags(plain, Path()),
        "files": [_file_digest(shard) for shard in shards(weights)],
        # A LoRA or a draft model may be another file under the same name.
        "named": [
            _size_and_date(word) for argument in tier.engine.extra_args for word in _WORDS.split(argument)
        ],
        "engine": _engine_build(engine),
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _file_digest(path: Path) -> tuple[int, int, str]:
    """Return size, date and a digest of the header and of samples from the whole file.

    A fine-tuned model has the same size and header, and a copy may keep the date.
    """
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(HEADER_BYTES))
        for number in range(SAMPLES):
            file.seek(max(0, status.st_size - SAMPLE_BYTES) * number // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return status.st_size, status.st_mtime_ns, digest.hexdigest()


def _size_and_date(word: str) -> tuple[int, int] | None:
    try:
        status = Path(word).stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _engine_build(engine: EngineBinary) -> str:
    if engine.kind == "native":
        binary = engine.path.stat()
        return f"native {binary.st_size} {binary.st_mtime_ns}"
    return f"xllamacpp {importlib.metadata.version('xllamacpp')}"

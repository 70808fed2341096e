"""What makes a saved prompt cache valid for a model server, as one digest."""

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
class KvPlace:
    """Where a model server saves what its slots hold.

    Attributes:
        identity: names everything that makes a file valid; the directory's name.
        directory: the server writes there, and reads from there.
        model: its file, for people.
        most_bytes: upper bound of one file: a slot with a whole context.
        token_bytes: of one token, about.
    """

    identity: str
    directory: Path
    model: str
    most_bytes: int
    token_bytes: int


def kv_identity(tier: Tier, weights: Path, engine: EngineBinary) -> str:
    """Return the identity of the caches that a tier's server writes.

    Everything on its command line counts, but for what does not touch the cache: sampling, templates (a
    cache is of tokens), threads, and where things are.
    """
    settings = replace(tier.engine, threads=-1, cache_ram_gb=0.0, chat_template=None, jinja=True)
    plain = replace(tier, name="", sampler=Sampler(), engine=settings)
    about = {
        "flags": server_flags(plain, Path(), host="", port=0),
        "files": [_sampled(shard) for shard in shards(weights)],
        # A LoRA, a draft model, whatever is named: another file of the same name is another thing.
        "named": [_dated(word) for argument in tier.engine.extra_args for word in _WORDS.split(argument)],
        "engine": _build(engine),
    }
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]


def _sampled(path: Path) -> tuple[int, int, str]:
    """Return size, date and a digest of the header and of samples from all over the file.

    A model that was trained further has the same size and header, and may be copied with its date.
    """
    written = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(HEADER_BYTES))
        for number in range(SAMPLES):
            file.seek(max(0, written.st_size - SAMPLE_BYTES) * number // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return written.st_size, written.st_mtime_ns, digest.hexdigest()


def _dated(word: str) -> tuple[int, int] | None:
    try:
        found = Path(word).stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def _build(engine: EngineBinary) -> str:
    if engine.kind == "native":
        binary = engine.path.stat()
        return f"native {binary.st_size} {binary.st_mtime_ns}"
    return f"xllamacpp {importlib.metadata.version('xllamacpp')}"

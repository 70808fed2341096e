"""Write GGUF headers, independently of the reader under test."""

from __future__ import annotations

import struct
from typing import Any

Entry = tuple[str, int, bytes]


def u32(value: int) -> tuple[int, bytes]:
    return 4, struct.pack("<I", value)


def text(value: str) -> tuple[int, bytes]:
    return 8, raw(value)


def raw(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def array(kind: int, count: int, data: bytes) -> tuple[int, bytes]:
    return 9, struct.pack("<IQ", kind, count) + data


def tokens(count: int) -> tuple[int, bytes]:
    return array(8, count, b"".join(raw(f"token{number}") for number in range(count)))


def gguf(entries: dict[str, tuple[int, bytes]], *, version: int = 3, count: int | None = None) -> bytes:
    body = b"".join(raw(key) + struct.pack("<I", kind) + data for key, (kind, data) in entries.items())
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(entries) if count is None else count) + body


def llama(**changed: Any) -> dict[str, tuple[int, bytes]]:
    """Return the entries of a small llama model; `None` removes an entry."""
    entries: dict[str, Any] = {
        "general.architecture": text("llama"),
        "llama.block_count": u32(3),
        "llama.embedding_length": u32(64),
        "llama.attention.head_count": u32(8),
        "llama.attention.head_count_kv": u32(2),
        "llama.context_length": u32(4096),
        "tokenizer.ggml.tokens": tokens(5),
    }
    entries.update({name.replace("__", "."): value for name, value in changed.items()})
    return {name: value for name, value in entries.items() if value is not None}

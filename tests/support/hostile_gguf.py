"""GGUF files whose headers make a reader without limits take gigabytes or minutes. Most are sparse."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from support.gguf import array, gguf, llama, raw, u32

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MB = 1024 * 1024
NAMED = "general.architecture"


def _beginning(entries: int) -> bytes:
    """Return the start of a header with the shape of a model; `entries` more follow."""
    shape = {name: value for name, value in llama().items() if name != "tokenizer.ggml.tokens"}
    return gguf(shape, count=len(shape) + entries)


def long_strings(path: Path) -> None:
    """Write 300 values of 16 MB each."""
    with path.open("wb") as file:
        file.write(_beginning(300))
        for number in range(300):
            file.write(raw(f"k{number}") + struct.pack("<IQ", 8, 16 * MB))
            file.truncate(file.tell() + 16 * MB)
            file.seek(0, 2)


def long_keys(path: Path) -> None:
    """Write 300 keys of 16 MB each."""
    with path.open("wb") as file:
        file.write(_beginning(300))
        for _ in range(300):
            file.write(struct.pack("<Q", 16 * MB))
            file.truncate(file.tell() + 16 * MB)
            file.seek(0, 2)
            file.write(struct.pack("<II", 4, 0))


def many_keys(path: Path) -> None:
    """Write a million keys."""
    keys = b"".join(raw(f"k{number}") + struct.pack("<II", 4, number) for number in range(1_000_000))
    path.write_bytes(_beginning(1_000_000) + keys)


def many_numbers(path: Path) -> None:
    """Write 4000 arrays, each short enough to be kept, with 16 million numbers altogether."""
    numbers = struct.pack("<IQ", 1, 4096) + b"\x80" * 4096
    keys = b"".join(raw(f"k{number}") + struct.pack("<I", 9) + numbers for number in range(4000))
    path.write_bytes(_beginning(4000) + keys)


def nested_arrays(path: Path) -> None:
    """Write an array of 16 million arrays, each of them empty."""
    content = _beginning(1) + raw("nested") + struct.pack("<IIQ", 9, 9, 16 * MB)
    _write_sparse(path, content, 16 * MB * 12)


def deep_arrays(path: Path) -> None:
    """Write arrays in arrays, 5000 deep."""
    path.write_bytes(_beginning(1) + raw("deep") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000)


def empty_strings(path: Path) -> None:
    """Write 16 vocabularies of a million empty strings each."""
    with path.open("wb") as file:
        file.write(_beginning(16))
        for number in range(16):
            file.write(raw(f"k{number}") + struct.pack("<IIQ", 9, 8, MB))
            file.truncate(file.tell() + 8 * MB)
            file.seek(0, 2)


def scattered_strings(path: Path) -> None:
    """Write a vocabulary of 2000 strings of 2 MB each, of which a reader needs the lengths."""
    with path.open("wb") as file:
        file.write(_beginning(1) + raw("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2000))
        for _ in range(2000):
            file.write(struct.pack("<Q", 2 * MB))
            file.truncate(file.tell() + 2 * MB)
            file.seek(0, 2)


def huge_numbers(path: Path) -> None:
    """Write a shape whose memory is a number beyond what a float can hold."""
    path.write_bytes(gguf(llama(llama__embedding_length=(12, struct.pack("<d", 1e308)))))


def no_shape(path: Path) -> None:
    """Write a vocabulary before the shape, so that reading cannot stop at it."""
    tokens = array(8, 3 * MB, b"")
    content = gguf({NAMED: (8, raw("llama")), "tokenizer.ggml.tokens": tokens, "more": u32(1)})
    _write_sparse(path, content[: -len(raw("more")) - 8], 3 * MB * 8)


def _write_sparse(path: Path, content: bytes, zeros: int) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.truncate(len(content) + zeros)


HOSTILE: list[Callable[[Path], None]] = [
    long_strings,
    long_keys,
    many_keys,
    many_numbers,
    nested_arrays,
    deep_arrays,
    empty_strings,
    scattered_strings,
    huge_numbers,
    no_shape,
]

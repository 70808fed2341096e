"""Read the header of a GGUF file.

The `gguf` package is not used: it is not installed with a native llama-server, needs numpy, and creates an
object for every token of the vocabulary. Format: ggml/docs/gguf.md in llama.cpp, versions 2 and 3.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.model_shape import GgufHeader, header_from_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["GgufHeader", "read_header", "read_header_from"]

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_STRING = 16 * 1024 * 1024  # chat templates are the longest strings, well under 1 MB
_LENGTH_BYTES = 8
_BLOCK = 1024 * 1024
_MAX_KEYS = 1_000_000
_MAX_DEPTH = 8  # of nested arrays; no known file has any
_VOCABULARY, _ARCHITECTURE = "tokenizer.ggml.tokens", "general.architecture"
_MAX_ARRAY = 4096  # enough for per-layer values; of longer arrays, vocabularies, only the length is read


class _Reader:
    """Reads the values of a header from a file. Its methods raise ValueError if the header is damaged."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def read_bytes(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise ValueError("the file ends inside its header")
        return data

    def read_scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.read_bytes(struct.calcsize(f"<{code}")))[0]

    def read_string(self) -> str:
        length = self.read_scalar("Q")
        if length > _MAX_STRING:
            raise ValueError(f"a string of {length} bytes in its header")
        return self.read_bytes(length).decode(errors="replace")

    def skip(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise ValueError("the file ends inside its header")
        self._file.seek(count, 1)

    def _skip_strings(self, count: int) -> None:
        """Skip strings without creating them; a vocabulary has some hundred thousand."""
        unpack_length = struct.Struct("<Q").unpack_from
        block, position = b"", 0
        for _ in range(count):
            if len(block) - position < _LENGTH_BYTES:
                block, position = block[position:] + self._file.read(_BLOCK), 0
            if len(block) < _LENGTH_BYTES:
                raise ValueError("the file ends inside its header")
            position += _LENGTH_BYTES + unpack_length(block, position)[0]
            if position > len(block):
                self.skip(position - len(block))
                block, position = b"", 0
        self._file.seek(position - len(block), 1)

    def read_value(self, kind: int, depth: int = 0) -> Any:
        """Read a value of a GGUF value type, inside `depth` arrays."""
        if kind in _SCALARS:
            return self.read_scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.read_string()
        if kind == _ARRAY and depth < _MAX_DEPTH:
            return self._read_array(self.read_scalar("I"), self.read_scalar("Q"), depth + 1)
        raise ValueError(f"an unknown value type {kind} in its header")

    def _read_array(self, kind: int, count: int, depth: int) -> Any:
        """Return the values of a short array of numbers; the length of any other array."""
        if kind in _SCALARS:
            width = struct.calcsize(f"<{_SCALARS[kind]}")
            if count > _MAX_ARRAY:
                self.skip(count * width)
                return count
            return struct.unpack(f"<{count}{_SCALARS[kind]}", self.read_bytes(count * width))
        if count > _MAX_STRING:
            raise ValueError(f"an array of {count} entries in its header")
        if kind == _STRING:
            self._skip_strings(count)
            return count
        for _ in range(count):
            self.read_value(kind, depth)
        return count


def read_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        LlmstackError: the file cannot be read, or is not a GGUF model.
    """
    try:
        with path.open("rb") as file:
            return read_header_from(file, os.fstat(file.fileno()).st_size, str(path))
    except OSError as error:
        raise LlmstackError(f"cannot read {path}: {error.strerror or error}") from error


def read_header_from(file: BinaryIO, size: int, name: str, *, stop_at_vocabulary: bool = False) -> GgufHeader:
    """Read the header of a GGUF model from a seekable file object.

    Args:
        file: positioned at its first byte.
        size: size of the whole file, in bytes.
        name: name of the file, for error messages.
        stop_at_vocabulary: stop before the tokens, which take megabytes, if the model's shape precedes them,
            as in the output of every known converter. For a file that is read over the network.

    Raises:
        LlmstackError: the file is not a GGUF model.
    """
    try:
        return header_from_metadata(
            _read_metadata(_Reader(file, size), stop_at_vocabulary=stop_at_vocabulary), size
        )
    except (ArithmeticError, ValueError, TypeError, struct.error) as error:
        raise LlmstackError(
            f"{name}: expected a GGUF model: {error}",
            hint="the file is damaged or of another format; download it again",
        ) from error


def _read_metadata(reader: _Reader, *, stop_at_vocabulary: bool) -> dict[str, Any]:
    if (magic := reader.read_bytes(4)) != b"GGUF":
        raise ValueError(f"it starts with {magic!r}, not with GGUF")
    version = reader.read_scalar("I")
    if version not in {2, 3}:
        raise ValueError(f"its format version is {version}, supported are 2 and 3")
    reader.read_scalar("Q")  # number of tensors
    count = reader.read_scalar("Q")
    if count > _MAX_KEYS:
        raise ValueError(f"{count} entries in its header")
    metadata: dict[str, Any] = {}
    for _ in range(count):
        key, kind = reader.read_string(), reader.read_scalar("I")
        if stop_at_vocabulary and key == _VOCABULARY and kind == _ARRAY and _has_shape(metadata):
            reader.read_scalar("I")  # the type of the entries
            return {**metadata, key: reader.read_scalar("Q")}
        metadata[key] = reader.read_value(kind)
    return metadata


def _has_shape(metadata: Mapping[str, Any]) -> bool:
    return f"{metadata.get(_ARCHITECTURE)}.block_count" in metadata

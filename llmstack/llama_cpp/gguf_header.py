"""What a GGUF file says about its model, read from its header.

The `gguf` package could do it, but is not installed beside a native llama-server, needs numpy, and builds
every token of the vocabulary as an object. Format: ggml/docs/gguf.md in llama.cpp, versions 2 and 3.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.model_shape import GgufHeader, header_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["GgufHeader", "read_header", "read_header_from"]

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_STRING = 16 * 1024 * 1024  # a chat template is the longest string seen, well under 1 MB
_LENGTH_BYTES = 8
_BLOCK = 1024 * 1024
_MAX_KEYS = 1_000_000
_MAX_DEPTH = 8  # of arrays in arrays; none was ever seen
_VOCABULARY, _FAMILY = "tokenizer.ggml.tokens", "general.architecture"
_KEPT_ARRAY = 4096  # per-layer values; longer ones are vocabularies, of which only the length matters


class _Reader:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise ValueError("the file ends inside its header")
        return data

    def scalar(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def string(self) -> str:
        length = self.scalar("Q")
        if length > _MAX_STRING:
            raise ValueError(f"a string of {length} bytes in its header")
        return self.take(length).decode(errors="replace")

    def skip(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise ValueError("the file ends inside its header")
        self._file.seek(count, 1)

    def _skip_strings(self, count: int) -> None:
        """Pass over strings without making them: a vocabulary has some hundred thousand."""
        length_at = struct.Struct("<Q").unpack_from
        block, at = b"", 0
        for _ in range(count):
            if len(block) - at < _LENGTH_BYTES:
                block, at = block[at:] + self._file.read(_BLOCK), 0
            if len(block) < _LENGTH_BYTES:
                raise ValueError("the file ends inside its header")
            at += _LENGTH_BYTES + length_at(block, at)[0]
            if at > len(block):
                self.skip(at - len(block))
                block, at = b"", 0
        self._file.seek(at - len(block), 1)

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY and depth < _MAX_DEPTH:
            return self._array(self.scalar("I"), self.scalar("Q"), depth + 1)
        raise ValueError(f"an unknown value type {kind} in its header")

    def _array(self, kind: int, count: int, depth: int) -> Any:
        """Return the values of a short array, the length of a long one."""
        if kind in _SCALARS:
            width = struct.calcsize(f"<{_SCALARS[kind]}")
            if count > _KEPT_ARRAY:
                self.skip(count * width)
                return count
            return struct.unpack(f"<{count}{_SCALARS[kind]}", self.take(count * width))
        if count > _MAX_STRING:
            raise ValueError(f"an array of {count} entries in its header")
        if kind == _STRING:
            self._skip_strings(count)
            return count
        for _ in range(count):
            self.value(kind, depth)
        return count


def read_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        LlmstackError: it cannot be read, or is not a GGUF model.
    """
    try:
        with path.open("rb") as file:
            return read_header_from(file, os.fstat(file.fileno()).st_size, str(path))
    except OSError as error:
        raise LlmstackError(f"cannot read {path}: {error.strerror or error}") from error


def read_header_from(file: BinaryIO, size: int, name: str, *, brief: bool = False) -> GgufHeader:
    """Read the header of a GGUF model from anything that can be read and sought.

    Args:
        file: at its first byte.
        size: of the whole file, in bytes.
        name: of the file, for error messages.
        brief: stop at the vocabulary, megabytes of it, where the shape stood before it, as every known
            converter writes it. For a file that is fetched from afar.

    Raises:
        LlmstackError: it is not a GGUF model.
    """
    try:
        return header_of(_metadata(_Reader(file, size), brief=brief), size)
    except (ArithmeticError, ValueError, TypeError, struct.error) as error:
        raise LlmstackError(
            f"{name}: expected a GGUF model: {error}",
            hint="the file is damaged or something else; fetch it again",
        ) from error


def _metadata(reader: _Reader, *, brief: bool) -> dict[str, Any]:
    if (magic := reader.take(4)) != b"GGUF":
        raise ValueError(f"it starts with {magic!r}, not with GGUF")
    version = reader.scalar("I")
    if version not in {2, 3}:
        raise ValueError(f"its format version is {version}, known are 2 and 3")
    reader.scalar("Q")  # number of tensors
    count = reader.scalar("Q")
    if count > _MAX_KEYS:
        raise ValueError(f"{count} entries in its header")
    found: dict[str, Any] = {}
    for _ in range(count):
        key, kind = reader.string(), reader.scalar("I")
        if brief and key == _VOCABULARY and kind == _ARRAY and f"{found.get(_FAMILY)}.block_count" in found:
            reader.scalar("I")
            return {**found, key: reader.scalar("Q")}
        found[key] = reader.value(kind)
    return found

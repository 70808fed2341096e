"""Read the header of a GGUF file, within limits: the file may come from anybody.

The `gguf` package is not used: it is not installed with a native llama-server, needs numpy, and creates an
object for every token of the vocabulary. Format: ggml/docs/gguf.md in llama.cpp, versions 2 and 3.

The limits leave a margin over Gemma 3, whose vocabulary is the largest of the known models: 33 entries,
262 144 tokens, 6.5 MB (gemma-3-270m-q4_k_m.gguf). Of the values, little is kept: numbers, short strings and
short arrays of numbers, which take 1 KB in that file. The list of tensors is not read.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.model_shape import GgufHeader, header_from_metadata
from llmstack.units import KB, MB

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["GgufHeader", "read_header", "read_header_from"]

MAX_KEYS = 4096  # 100 times as many as in Gemma 3
MAX_STRINGS = 4_000_000  # in all arrays together: 16 vocabularies like Gemma 3's; they take about a second
MAX_READ_BYTES = 64 * MB  # 10 headers like Gemma 3's
MAX_KEPT_BYTES = MB  # as an object, a byte in an array takes up to 36 bytes
MAX_KEPT_STRING = KB  # llama.cpp's names of architectures have at most 20 characters
MAX_KEPT_ARRAY = 4096  # numbers, one per layer; known models have up to some hundred layers
READ_S = 10.0  # for one header; a cold disk delivers 64 MB in that time

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LENGTH_BYTES = 8
_BLOCK_BYTES = 256 * KB
_VOCABULARY, _ARCHITECTURE = "tokenizer.ggml.tokens", "general.architecture"


class _Reader:
    """Reads the values of a header from a file.

    Its methods raise ValueError if the header is damaged or exceeds a limit, and TimeoutError if it takes too
    long to read.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._remaining_bytes = MAX_READ_BYTES
        self._remaining_strings = MAX_STRINGS
        self._kept_bytes = 0
        self._deadline = time.monotonic() + READ_S

    def _read(self, count: int) -> bytes:
        """Return up to `count` bytes, fewer at the end of the file."""
        self._remaining_bytes -= count
        if self._remaining_bytes < 0:
            raise ValueError(f"its header takes more than {MAX_READ_BYTES // MB} MB")
        if time.monotonic() > self._deadline:
            raise TimeoutError(f"reading its header takes longer than {READ_S:g} s")
        return self._file.read(count)

    def read_bytes(self, count: int) -> bytes:
        """Return the bytes of a value, which is kept."""
        self._kept_bytes += count
        if self._kept_bytes > MAX_KEPT_BYTES:
            raise ValueError(f"keys, numbers and names of more than {MAX_KEPT_BYTES // MB} MB in its header")
        data = self._read(count)
        if len(data) != count:
            raise ValueError("the file ends inside its header")
        return data

    def read_scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.read_bytes(struct.calcsize(f"<{code}")))[0]

    def read_key(self) -> str:
        return self.read_bytes(self.read_scalar("Q")).decode(errors="replace")

    def _read_string(self) -> str:
        """Return a short string; skip a long one, such as a chat template, and return an empty string."""
        length = self.read_scalar("Q")
        if length > MAX_KEPT_STRING:
            self.skip(length)
            return ""
        return self.read_bytes(length).decode(errors="replace")

    def skip(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise ValueError("the file ends inside its header")
        self._file.seek(count, 1)

    def _skip_strings(self, count: int) -> None:
        """Skip strings without creating them; a vocabulary has some hundred thousand."""
        self._remaining_strings -= count
        if self._remaining_strings < 0:
            raise ValueError(f"arrays of more than {MAX_STRINGS} strings in its header")
        unpack_length = struct.Struct("<Q").unpack_from
        block, position = b"", 0
        for _ in range(count):
            if len(block) - position < _LENGTH_BYTES:
                block, position = block[position:] + self._read(_BLOCK_BYTES), 0
            if len(block) < _LENGTH_BYTES:
                raise ValueError("the file ends inside its header")
            position += _LENGTH_BYTES + unpack_length(block, position)[0]
            if position > len(block):
                self.skip(position - len(block))
                block, position = b"", 0
        self._file.seek(position - len(block), 1)

    def read_value(self, kind: int) -> Any:
        """Read a value of a GGUF value type."""
        if kind in _SCALARS:
            return self.read_scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._read_string()
        if kind == _ARRAY:
            return self._read_array(self.read_scalar("I"), self.read_scalar("Q"))
        raise ValueError(f"an unknown value type {kind} in its header")

    def _read_array(self, kind: int, count: int) -> Any:
        """Return the values of a short array of numbers; the length of any other array."""
        if kind == _STRING:
            self._skip_strings(count)
            return count
        if kind not in _SCALARS:  # also arrays of arrays, which llama.cpp refuses as well (ggml/src/gguf.cpp)
            raise ValueError(f"an array of values of type {kind} in its header")
        width = struct.calcsize(f"<{_SCALARS[kind]}")
        if count > MAX_KEPT_ARRAY:
            self.skip(count * width)
            return count
        return struct.unpack(f"<{count}{_SCALARS[kind]}", self.read_bytes(count * width))


def read_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    It takes at most `READ_S` seconds, as long as the file system answers.

    Raises:
        LlmstackError: the file cannot be read, or is not a GGUF model.
    """
    try:
        with _open_regular(path) as file:
            return read_header_from(file, os.fstat(file.fileno()).st_size, str(path))
    except OSError as error:
        raise LlmstackError(
            f"cannot read {path}: {error.strerror or error}",
            hint="check its permissions, and whether its disk answers",
        ) from error


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe would never end, and opening a device may have an effect.

    Raises:
        OSError: it is something else, or cannot be opened.
    """
    # Before opening and after, because it may be replaced in between; a pipe is opened without waiting.
    _require_regular(path.stat().st_mode)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _require_regular(os.fstat(file.fileno()).st_mode)
    except OSError:
        file.close()
        raise
    return file


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError("it is not a regular file")


def read_header_from(file: BinaryIO, size: int, name: str, *, stop_at_vocabulary: bool = False) -> GgufHeader:
    """Read the header of a GGUF model from a seekable file object.

    Args:
        file: positioned at its first byte; may end before `size`, if the rest is not needed.
        size: size of the whole file, in bytes.
        name: name of the file, for error messages.
        stop_at_vocabulary: stop before the tokens, which take megabytes, if the model's shape precedes them,
            as in the output of every known converter. For a file that is read over the network.

    Raises:
        LlmstackError: the file is not a GGUF model.
        OSError: it cannot be read, or not in time.
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
    if count > MAX_KEYS:
        raise ValueError(f"{count} entries in its header, more than {MAX_KEYS}")
    metadata: dict[str, Any] = {}
    for _ in range(count):
        key, kind = reader.read_key(), reader.read_scalar("I")
        if stop_at_vocabulary and key == _VOCABULARY and kind == _ARRAY and _has_shape(metadata):
            reader.read_scalar("I")  # the type of the entries
            return {**metadata, key: reader.read_scalar("Q")}
        metadata[key] = reader.read_value(kind)
    return metadata


def _has_shape(metadata: Mapping[str, Any]) -> bool:
    return f"{metadata.get(_ARCHITECTURE)}.block_count" in metadata

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from llmstack.channel import CURRENT, NEXT, Channel, external, read_marker, write_marker
from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("channel", [CURRENT, NEXT, external("http://127.0.0.1:10101")])
def test_a_marker_is_read_as_it_was_written(tmp_path: Path, channel: Channel) -> None:
    path = tmp_path / ".llmstack" / "default-channel"
    assert read_marker(path) is None
    write_marker(path, channel)
    assert path.read_text() == f"{channel}\n"
    assert read_marker(path) == channel


@pytest.mark.parametrize(
    ("url", "normalized"),
    [
        ("http://host:1/", "http://host:1"),
        ("https://host", "https://host"),
        ("http://[::1]:10101", "http://[::1]:10101"),
        ("http://host:1/base//", "http://host:1/base"),
    ],
)
def test_an_address_is_normalized(url: str, normalized: str) -> None:
    assert external(url) == Channel("external", normalized)


@pytest.mark.parametrize(
    "url",
    [
        *("", "host:1", "ftp://host", "file:///etc/passwd", "http://", "http://:1", "http://host:0"),
        *(
            "http://host:x",
            "http://host:70000",
            "http://[::1",
            "http://a b",
            "http://a\n",
            "http://a\x1b[31m",
        ),
    ],
)
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(LlmstackError, match="expected the address of a router") as caught:
        external(url)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "text", ["", "currently", "next next", "external", "external a b", "EXTERNAL http://x"]
)
def test_an_invalid_marker_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "default-channel"
    path.write_text(text)
    with pytest.raises(LlmstackError) as caught:
        read_marker(path)
    assert caught.value.message == f"{path}:1: expected `current`, `next` or `external <url>`, got {text!r}"


def test_a_marker_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    binary, directory, pipe = tmp_path / "binary", tmp_path / "directory", tmp_path / "pipe"
    binary.write_bytes(b"\xff\xfe")
    directory.mkdir()
    os.mkfifo(pipe) if hasattr(os, "mkfifo") else pipe.mkdir()  # opening it would wait for a writer
    for path, message in ((binary, ":1: expected"), (directory, " is not a"), (pipe, " is not a")):
        with pytest.raises(LlmstackError) as caught:
            read_marker(path)
        assert caught.value.message.startswith(f"{path}{message}")

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from llmstack.channel import CURRENT, NEXT, Channel, external, read_marker, write_marker
from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("channel", [CURRENT, NEXT, external("http://127.0.0.1:10101")])
def test_a_marker_says_what_was_written(tmp_path: Path, channel: Channel) -> None:
    path = tmp_path / ".llmstack" / "default-channel"
    assert read_marker(path) is None
    write_marker(path, channel)
    assert path.read_text() == f"{channel}\n"
    assert read_marker(path) == channel


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://host:1/", "http://host:1"),
        ("https://host", "https://host"),
        ("http://[::1]:10101", "http://[::1]:10101"),
        ("http://host:1/base//", "http://host:1/base"),
    ],
)
def test_addresses(url: str, kept: str) -> None:
    assert external(url) == Channel("external", kept)


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
def test_no_addresses(url: str) -> None:
    with pytest.raises(LlmstackError, match="expected the address of a router") as refused:
        external(url)
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    "text", ["", "currently", "next next", "external", "external a b", "EXTERNAL http://x"]
)
def test_no_marker(tmp_path: Path, text: str) -> None:
    path = tmp_path / "default-channel"
    path.write_text(text)
    with pytest.raises(LlmstackError) as refused:
        read_marker(path)
    assert refused.value.message == f"{path}:1: expected `current`, `next` or `external <url>`, got {text!r}"


def test_a_marker_that_cannot_be_read(tmp_path: Path) -> None:
    binary, directory, pipe = tmp_path / "binary", tmp_path / "directory", tmp_path / "pipe"
    binary.write_bytes(b"\xff\xfe")
    directory.mkdir()
    os.mkfifo(pipe) if hasattr(os, "mkfifo") else pipe.mkdir()  # who opened it would wait for a writer
    for path, wrong in ((binary, ":1: expected"), (directory, " is not a"), (pipe, " is not a")):
        with pytest.raises(LlmstackError) as caught:
            read_marker(path)
        assert caught.value.message.startswith(f"{path}{wrong}")

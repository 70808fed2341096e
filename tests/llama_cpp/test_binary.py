from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.binary import USUAL_PLACES, EngineBinary, find_engine

needs_no_server = pytest.mark.skipif(
    any((Path(place) / "llama-server").exists() for place in USUAL_PLACES),
    reason="this machine has a llama-server",
)


def program(directory: Path, name: str = "llama-server") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_one_that_is_named_comes_first(tmp_path: Path) -> None:
    named, on_path = program(tmp_path / "a", "my-server"), program(tmp_path / "b")
    env = {"PATH": str(on_path.parent), "LLAMA_SERVER_BIN": str(named)}
    assert find_engine(env) == EngineBinary("native", named)
    assert find_engine({**env, "LLAMA_SERVER_BIN": "llama-server"}) == EngineBinary("native", on_path)
    assert find_engine({**env, "LLAMA_SERVER_BIN": ""}) == EngineBinary("native", on_path)


@pytest.mark.parametrize("named", ["/no/such", ".", "not-on-path"])
def test_one_that_cannot_be_run(named: str) -> None:
    with pytest.raises(
        LlmstackError, match=f"LLAMA_SERVER_BIN: expected a program that can be run, got `{named}`"
    ):
        find_engine({"PATH": "", "LLAMA_SERVER_BIN": named})


def test_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = program(tmp_path / ".local" / "bin")
    if not any((Path(place) / "llama-server").exists() for place in USUAL_PLACES[:3]):
        assert find_engine({"PATH": ""}) == EngineBinary("native", found)


@pytest.mark.engine
@needs_no_server
def test_else_the_bundled_one(tmp_path: Path) -> None:
    assert find_engine({"PATH": str(tmp_path)}) == EngineBinary("bundled", Path(sys.executable))


@pytest.mark.engine
@needs_no_server
def test_nothing_in_the_directory_we_are_in_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in (".", "", ":.:"):
        assert find_engine({"PATH": path}).kind == "bundled"


def test_command_lines() -> None:
    python = (sys.executable, "-P", "-m")
    assert EngineBinary("bundled", Path(sys.executable)).argv(("-c", "1")) == (
        *python,
        "llmstack.llama_cpp.bundled",
        "-c",
        "1",
    )
    assert EngineBinary("native", Path("/x")).argv(("-c", "1")) == (
        *python,
        "llmstack.llama_cpp.launcher",
        "/x",
        "-c",
        "1",
    )

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.binary import INSTALL_DIRS, EngineBinary, find_engine, supports_unix_sockets

needs_no_server = pytest.mark.skipif(
    any((Path(directory) / "llama-server").exists() for directory in INSTALL_DIRS),
    reason="this machine has a llama-server",
)


def program(directory: Path, name: str = "llama-server") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_llama_server_bin_takes_precedence_over_path(tmp_path: Path) -> None:
    configured, on_path = program(tmp_path / "a", "my-server"), program(tmp_path / "b")
    env = {"PATH": str(on_path.parent), "LLAMA_SERVER_BIN": str(configured)}
    assert find_engine(env) == EngineBinary("native", configured)
    assert find_engine({**env, "LLAMA_SERVER_BIN": "llama-server"}) == EngineBinary("native", on_path)
    assert find_engine({**env, "LLAMA_SERVER_BIN": ""}) == EngineBinary("native", on_path)


@pytest.mark.parametrize("value", ["/no/such", ".", "not-on-path"])
def test_llama_server_bin_that_cannot_be_run_is_an_error(value: str) -> None:
    with pytest.raises(
        LlmstackError, match=f"LLAMA_SERVER_BIN: expected a program that can be run, got `{value}`"
    ):
        find_engine({"PATH": "", "LLAMA_SERVER_BIN": value})


def test_the_usual_directories_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    binary = program(tmp_path / ".local" / "bin")
    if not any((Path(directory) / "llama-server").exists() for directory in INSTALL_DIRS[:3]):
        assert find_engine({"PATH": ""}) == EngineBinary("native", binary)


@pytest.mark.engine
@needs_no_server
def test_the_bundled_engine_is_the_fallback(tmp_path: Path) -> None:
    assert find_engine({"PATH": str(tmp_path)}) == EngineBinary("bundled", Path(sys.executable))


@pytest.mark.engine
@needs_no_server
def test_nothing_in_the_current_directory_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in (".", "", ":.:"):
        assert find_engine({"PATH": path}).kind == "bundled"


def test_the_command_line_of_each_kind_of_engine() -> None:
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


@pytest.mark.parametrize(
    ("source", "supported"),
    [
        ("print('--host HOST  bind to an UNIX socket if the address ends with .sock')", True),
        ("import sys; sys.exit('--host HOST  UNIX socket paths ending in .sock')", True),
        ("print('--host HOST  ip address to listen (default: 127.0.0.1)')", False),
        ("import sys; sys.exit(1)", False),
    ],
)
async def test_an_engine_is_asked_whether_it_knows_unix_sockets(
    tmp_path: Path, source: str, *, supported: bool
) -> None:
    path = program(tmp_path)
    path.write_text(f"#!{sys.executable}\n{source}\n")
    assert await supports_unix_sockets(EngineBinary("native", path), os.environ) == supported


async def test_an_engine_that_does_not_answer_is_ended_and_gets_a_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path)
    path.write_text(f"#!{sys.executable}\nimport signal\nsignal.pause()\n")
    monkeypatch.setattr("llmstack.llama_cpp.binary.HELP_S", 0.3)
    assert not await supports_unix_sockets(EngineBinary("native", path), os.environ)


async def test_the_bundled_engine_knows_unix_sockets_except_on_windows() -> None:
    engine = EngineBinary("bundled", Path(sys.executable))
    assert await supports_unix_sockets(engine, {}) == (os.name != "nt")

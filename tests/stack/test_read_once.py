"""A command reads models.ini once: what it has verified is what it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmstack.config import parse_bytes, trusted

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import CliProject

    from llmstack.config import StackConfig


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every models.ini that this process parses."""
    files: list[Path] = []

    def parse(data: bytes, path: Path) -> StackConfig:
        files.append(path)
        return parse_bytes(data, path)

    monkeypatch.setattr(trusted, "parse_bytes", parse)
    return files


@pytest.mark.engine
def test_each_command_reads_models_ini_once(project: CliProject, files_read: list[Path]) -> None:
    project.write()
    agent = project.directory.parent / "bin" / "codex"
    agent.parent.mkdir()
    agent.write_text("#!/bin/sh\n")
    agent.chmod(0o755)
    project.env["PATH"] = f"{agent.parent}:{project.env['PATH']}"
    for command in (
        "install --trust",
        "check --offline",
        "route hello",
        "start",
        "start",  # it runs already
        "status",
        "check --offline",
        "route hello",
        "load plan",
        "unload plan",
        "run codex",
        "reload",
        "restart --detach",
        "setup --skip-download",
        "download",
        "cache list",
        "stop",
    ):
        files_read.clear()
        project.run(*command.split()).check()
        expected = [] if command == "stop" else [project.state / "models.ini"]
        assert files_read == expected, command

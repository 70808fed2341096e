from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.home import isolated_env
from support.project import CliProject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Iterator[CliProject]:
    """A project that is not installed yet. It is stopped after the test, and must leave nothing running."""
    project = CliProject(tmp_path / "project")
    project.directory.mkdir()
    yield project
    project.close()


@pytest.fixture
def stack(project: CliProject) -> CliProject:
    """An installed project whose stack runs."""
    project.install()
    project.start()
    return project


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliProject]:
    """A running stack shared by tests that do not change it; tier `talker` gives endless answers."""
    root = tmp_path_factory.mktemp("shared")
    project = CliProject(root / "project", env=isolated_env(root / "home", os.environ))
    project.write()
    project.add_talker()
    project.run("install", "--trust").check()
    project.run_process("start").check()  # in its own process: its models change between tests
    yield project
    project.close()


@pytest.fixture
def demo_project(tmp_path: Path) -> Iterator[CliProject]:
    """A project with profile `demo` on its own ports."""
    project = CliProject(tmp_path / "project")
    project.directory.mkdir()
    project.run("install", "--profile", "demo").check()
    ini = project.state / "models.ini"
    ports = f"router_port = {project.port}\nstart_port = {project.port + 1}\nthreads = 1\n"
    ini.write_text(ini.read_text().replace("[DEFAULT]\n", f"[DEFAULT]\n{ports}"))
    project.run("install").check()  # the port is in opencode.json too
    yield project
    project.close()

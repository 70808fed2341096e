from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.project import CliProject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Iterator[CliProject]:
    """A project that is not installed yet; it is stopped afterwards, and must leave nothing running."""
    project = CliProject(tmp_path / "project")
    project.directory.mkdir()
    yield project
    project.close()


@pytest.fixture
def stack(project: CliProject) -> CliProject:
    """A project that is installed and runs."""
    project.install()
    project.start()
    return project

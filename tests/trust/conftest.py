from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.trusting import make_project

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.paths import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "work")


@pytest.fixture
def trust_file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "trusted.toml"

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.trusting import make

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.paths import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make(tmp_path / "work")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "data" / "trusted.toml"

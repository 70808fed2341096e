from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.hub import running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.hub import Hub


@pytest.fixture
def server() -> Iterator[Hub]:
    """A model hub and its storage host, both on loopback."""
    with running_hub() as hub:
        yield hub

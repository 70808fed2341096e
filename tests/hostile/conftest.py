from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from router.conftest import lasting_router
from support.processes import require_no_process_left

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["lasting_router"]


@pytest.fixture(autouse=True, scope="module")
def no_process_left() -> Iterator[None]:
    """For a module, not for each of its hundreds of cases: to list all processes takes longer than most."""
    with require_no_process_left():
        yield

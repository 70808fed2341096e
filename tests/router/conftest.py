from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from router.clients import well_behaved
from router.harness import RunningRouter, run_in_thread, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="module")
def lasting_router() -> Iterator[RunningRouter]:
    """Yield a router for a whole module, in front of a model server that works."""

    @contextlib.asynccontextmanager
    async def only_router() -> AsyncIterator[RunningRouter]:
        async with stack(well_behaved) as (running, _):
            yield running

    with run_in_thread(only_router) as running:
        yield running

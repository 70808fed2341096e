from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from router.clients import well_behaved
from router.harness import Running, in_thread, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="module")
def lasting_router() -> Iterator[Running]:
    """A router for a whole module, in front of engines that answer well."""

    @contextlib.asynccontextmanager
    async def only_router() -> AsyncIterator[Running]:
        async with stack(well_behaved) as (running, _):
            yield running

    with in_thread(only_router) as running:
        yield running

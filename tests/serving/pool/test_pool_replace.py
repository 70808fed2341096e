"""A pool whose configuration is replaced while it serves."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.models import FakeServers
from support.waiting import wait_until_async

from llmstack.serving.errors import TierUnavailableError
from llmstack.serving.memory.eviction import MemoryPlan
from llmstack.serving.pool.pool import Pool
from llmstack.serving.pool.pool_config import PoolConfig
from llmstack.upstream.client import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmstack.serving.pool.lease import PoolLease


def plan(budget: int = 3, **needs: int) -> MemoryPlan:
    return MemoryPlan(budget, needs, dict.fromkeys(needs, 1.0))


def pool_config(servers: FakeServers, memory_plan: MemoryPlan) -> PoolConfig:
    return PoolConfig(
        servers,
        memory_plan,
        ttls=dict.fromkeys(memory_plan.needs, 0),
        slots=dict.fromkeys(memory_plan.needs, 1),
    )


def replace(pool: Pool, servers: FakeServers, new: MemoryPlan, *changed: str) -> None:
    pool.replace(pool_config(servers, new), changed=changed)


@asynccontextmanager
async def pool_of(servers: FakeServers, memory_plan: MemoryPlan) -> AsyncIterator[Pool]:
    pool = Pool(pool_config(servers, memory_plan), Upstream())
    try:
        yield pool
    finally:
        await pool.close()


async def test_an_unchanged_model_keeps_its_server() -> None:
    old, new = FakeServers(), FakeServers()
    async with pool_of(old, plan(a=1, b=1)) as pool:
        await pool.load("a")
        replace(pool, new, plan(a=1, b=1, c=1), "b")
        async with await pool.acquire("a") as lease:
            assert lease.tier == "a"
        await pool.load("c")
    assert ([server.tier for server in old.created], [server.tier for server in new.created]) == (
        ["a"],
        ["c"],
    )


async def test_a_changed_model_finishes_its_request_and_the_next_one_gets_the_new_server() -> None:
    old, new = FakeServers(), FakeServers()
    async with pool_of(old, plan(a=1)) as pool:
        lease = await pool.acquire("a")
        waiting = asyncio.create_task(pool.acquire("a"))
        await wait_until_async(lambda: pool.states()["a"].waiting == 1)
        replace(pool, new, plan(a=1), "a")
        assert (old.created[0].up, waiting.done(), new.created) == (True, False, [])
        async with lease:
            pass
        async with await waiting:
            assert (old.created[0].up, new.created[0].up) == (False, True)


async def test_requests_that_wait_for_a_removed_tier_are_served_and_later_ones_refused() -> None:
    old, new = FakeServers(), FakeServers()
    async with pool_of(old, plan(a=1, b=1)) as pool:
        lease = await pool.acquire("b")
        waiting = asyncio.create_task(pool.acquire("b"))
        await wait_until_async(lambda: pool.states()["b"].waiting == 1)
        replace(pool, new, plan(a=1), "b")
        with pytest.raises(TierUnavailableError, match="b has no model to load"):
            await pool.acquire("b")
        async with lease:
            pass
        async with await waiting as served:
            assert served.url == "http://b"
        await wait_until_async(lambda: not old.running)
        await wait_until_async(lambda: list(pool.states()) == ["a"])
    assert new.created == []


async def granted_once_given_back(pool: Pool, tier: str, held: PoolLease, new: FakeServers) -> PoolLease:
    """Return a lease of a tier that fits into memory only after another lease was given back."""
    waiting = asyncio.create_task(pool.acquire(tier))
    await wait_until_async(lambda: pool.states()[tier].waiting == 1)
    assert new.created == []  # the old server still uses the budget
    async with held:
        pass
    return await waiting


async def test_memory_counts_the_larger_of_old_and_new_until_the_old_server_has_ended() -> None:
    old, new = FakeServers(), FakeServers()
    async with pool_of(old, plan(a=3, b=1)) as pool:
        lease = await pool.acquire("a")
        replace(pool, new, plan(a=1, b=1), "a")
        async with await granted_once_given_back(pool, "b", lease, new):
            await pool.load("a")
            assert {tier for tier, state in pool.states().items() if state.state == "resident"} == {"a", "b"}


async def test_the_configuration_can_be_replaced_again_before_the_old_servers_have_ended() -> None:
    old, middle, new = FakeServers(), FakeServers(), FakeServers()
    async with pool_of(old, plan(a=1, b=1)) as pool:
        lease = await pool.acquire("a")
        replace(pool, middle, plan(b=1), "a")
        replace(pool, new, plan(a=2, b=1), "a")
        async with lease:
            pass
        async with await pool.acquire("a"):
            assert (middle.created, new.created[0].up, old.created[0].up) == ([], True, False)


async def test_memory_counts_a_busy_model_of_the_configuration_before_the_last() -> None:
    old, new = FakeServers(), FakeServers()
    async with pool_of(old, plan(a=3, b=1)) as pool:
        lease = await pool.acquire("a")
        replace(pool, new, plan(a=1, b=1), "a")
        replace(pool, new, plan(a=1, b=1, c=1), "c")
        async with await granted_once_given_back(pool, "b", lease, new):
            await pool.load("a")
            await pool.load("c")
            assert len(new.running) == 3

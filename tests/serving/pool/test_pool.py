from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from support.models import FakeServer, FakeServers
from support.waiting import wait_until_async

from llmstack.errors import LlmstackError
from llmstack.serving.errors import RequestFailedError, TierUnavailableError
from llmstack.serving.memory.eviction import MemoryPlan
from llmstack.serving.pool.pool import Pool
from llmstack.serving.pool.pool_config import PoolConfig, PoolLimits
from llmstack.upstream.client import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

TIERS = ("a", "b", "c", "d")


@asynccontextmanager
async def pool_of(
    servers: Callable[[str], FakeServer],
    *,
    budget: int = 2,
    slots: int = 2,
    ttl: float = 0.0,
    ttls: Mapping[str, float] = MappingProxyType({}),
    **limits: Any,
) -> AsyncIterator[Pool]:
    """Run a pool in which every tier needs 1 byte; check at the end that no task and no model remains."""
    before = asyncio.all_tasks()
    plan = MemoryPlan(budget, dict.fromkeys(TIERS, 1), dict.fromkeys(TIERS, 1.0))
    idle_ttls = {**dict.fromkeys(TIERS, ttl), **ttls}
    config = PoolConfig(servers, plan, ttls=idle_ttls, slots=dict.fromkeys(TIERS, slots))
    pool = Pool(config, Upstream(), limits=PoolLimits(**limits))
    try:
        yield pool
    finally:
        await pool.close()
        await wait_until_async(lambda: asyncio.all_tasks() <= before, timeout=2)
        assert {state.state for state in pool.states().values()} <= {"idle", "down"}


def states(pool: Pool) -> dict[str, str]:
    return {tier: state.state for tier, state in pool.states().items() if state.state != "idle"}


async def test_a_model_starts_on_demand_and_stays() -> None:
    servers = FakeServers()
    async with pool_of(servers) as pool:
        for _ in range(3):
            async with await pool.acquire("a") as lease:
                assert (lease.tier, lease.url, await lease.failure()) == ("a", "http://a", None)
                assert pool.states()["a"].leases == 1
        assert states(pool) == {"a": "resident"}
    assert len(servers.created) == 1


async def test_requests_for_a_loading_model_wait_for_the_same_load() -> None:
    servers = FakeServers(a={"load_s": None})
    async with pool_of(servers, slots=5) as pool:
        acquiring = [asyncio.create_task(pool.acquire("a")) for _ in range(5)]
        await wait_until_async(lambda: pool.states()["a"].waiting == 5)
        assert states(pool) == {"a": "loading"}
        servers.created[0].loaded.set()
        assert [lease.tier for lease in await asyncio.gather(*acquiring)] == ["a"] * 5
    assert len(servers.created) == 1


async def test_the_least_recently_used_model_is_evicted() -> None:
    servers = FakeServers()
    async with pool_of(servers) as pool:
        for tier in ("a", "b", "a", "c"):
            await pool.load(tier)
            async with await pool.acquire(tier):
                pass
        assert states(pool) == {"a": "resident", "c": "resident"}
        assert [pool.states()[tier].loads for tier in "abcd"] == [1, 1, 1, 0]
    assert servers.max_running == 2


async def test_a_busy_model_is_not_stopped() -> None:
    servers = FakeServers()
    async with pool_of(servers, budget=1) as pool:
        async with await pool.acquire("a") as lease:
            waiting = asyncio.create_task(pool.acquire("b"))
            await wait_until_async(lambda: pool.states()["b"].waiting == 1)
            assert servers.for_tier("a")[0].up
            assert await lease.failure() is None
        async with await waiting:
            assert states(pool) == {"b": "resident"}


async def test_an_endless_stream_of_requests_does_not_starve_other_models() -> None:
    servers = FakeServers()
    async with pool_of(servers, budget=1, slots=1, patience_s=0.1) as pool:
        stopped = asyncio.Event()

        async def stream() -> None:
            while not stopped.is_set():
                async with await pool.acquire("a"):
                    await asyncio.sleep(0.005)

        streams = [asyncio.create_task(stream()) for _ in range(4)]
        await wait_until_async(lambda: pool.states()["a"].leases)
        async with asyncio.timeout(2), await pool.acquire("b"):
            stopped.set()
        await asyncio.gather(*streams)


async def test_a_full_queue_refuses_with_retry_after() -> None:
    async with pool_of(FakeServers(a={"load_s": None}), queue=2) as pool:
        waiting = [asyncio.create_task(pool.acquire("a")) for _ in range(2)]
        await wait_until_async(lambda: pool.states()["a"].waiting == 2)
        with pytest.raises(TierUnavailableError, match="2 requests are waiting for a already") as raised:
            await pool.acquire("a")
        assert raised.value.retry_after == 10
        async with await pool.acquire("b"):
            pass  # each tier has its own queue
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_waiting_times_out() -> None:
    async with pool_of(FakeServers(a={"load_s": None}), wait_s=0.05) as pool:
        with pytest.raises(TierUnavailableError, match=r"a did not become free within 0\.05 s") as raised:
            await pool.acquire("a")
        assert raised.value.retry_after == 30
        assert pool.states()["a"].waiting == 0


async def test_an_unknown_tier_is_refused() -> None:
    async with pool_of(FakeServers()) as pool:
        with pytest.raises(TierUnavailableError, match="x has no model to load: it is served elsewhere"):
            await pool.acquire("x")
        assert await pool.unload("x") is False


async def test_a_request_cancelled_in_the_queue_leaves_it() -> None:
    servers = FakeServers(a={"load_s": None})
    async with pool_of(servers) as pool:
        leaving, staying = (asyncio.create_task(pool.acquire("a")) for _ in range(2))
        await wait_until_async(lambda: pool.states()["a"].waiting == 2)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert pool.states()["a"].waiting == 1
        servers.created[0].loaded.set()
        async with await staying:
            assert pool.states()["a"].leases == 1
        assert pool.states()["a"].leases == 0


@pytest.mark.parametrize("steps", range(8))
async def test_a_request_cancelled_at_any_moment_leaks_no_lease(steps: int) -> None:
    """Grant and cancellation get closer by single steps of the event loop, so that both orders occur."""
    servers = FakeServers(a={"load_s": None})
    async with pool_of(servers, slots=1) as pool:
        leaving = asyncio.create_task(pool.acquire("a"))
        await wait_until_async(lambda: pool.states()["a"].waiting == 1)
        servers.created[0].loaded.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        if not leaving.cancelled():
            async with leaving.result():
                pass
        async with asyncio.timeout(2), await pool.acquire("a"):
            assert pool.states()["a"].leases == 1
        assert pool.states()["a"].leases == 0


async def test_a_grant_at_the_moment_of_the_timeout_is_not_leaked() -> None:
    servers = FakeServers()
    async with pool_of(servers, slots=1, wait_s=0.02) as pool:
        for delay in range(40):
            held = await pool.acquire("a")
            waiting = asyncio.create_task(pool.acquire("a"))
            await asyncio.sleep(0.019 + delay * 0.0001)
            async with held:
                pass
            try:
                async with await waiting:
                    assert pool.states()["a"].leases == 1
            except TierUnavailableError:
                pass
            assert pool.states()["a"].leases == 0


async def test_a_failed_start_fails_every_waiting_request_and_the_next_one_tries_again() -> None:
    servers = FakeServers(a={"error": "out of memory"})
    async with pool_of(servers) as pool:
        results = await asyncio.gather(*(pool.acquire("a") for _ in range(3)), return_exceptions=True)
        assert [str(result) for result in results] == ["out of memory"] * 3
        assert {getattr(result, "hint", None) for result in results} == {"fix it"}
        assert (pool.states()["a"].state, pool.states()["a"].detail) == ("down", "out of memory")
        servers.options.clear()
        async with await pool.acquire("a"):
            assert (pool.states()["a"].state, pool.states()["a"].detail) == ("resident", "")
    assert len(servers.created) == 2


async def test_a_server_that_cannot_be_created_fails_only_its_own_requests() -> None:
    servers = FakeServers()

    def create_server(tier: str) -> FakeServer:
        if tier == "a":
            raise LlmstackError("a has no file")
        return servers(tier)

    async with pool_of(create_server, budget=1) as pool:
        held = await pool.acquire("b")
        first, second = asyncio.create_task(pool.acquire("a")), asyncio.create_task(pool.acquire("c"))
        await wait_until_async(lambda: pool.states()["c"].waiting == 1)
        async with held:
            pass
        with pytest.raises(TierUnavailableError, match="a has no file"):
            await first
        async with await second as lease:
            assert lease.tier == "c"


@pytest.mark.parametrize("bug", [RuntimeError("bug"), OSError("disk")])
async def test_a_bug_in_a_server_does_not_leave_requests_hanging(
    bug: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Buggy(FakeServer):
        async def start(self) -> None:
            raise bug

    async with pool_of(Buggy) as pool:
        with pytest.raises(TierUnavailableError, match="internal error, see the router's log"):
            await pool.acquire("a")
    assert str(bug) in caplog.text


async def test_after_a_crash_in_use_the_next_request_restarts_the_model(
    caplog: pytest.LogCaptureFixture,
) -> None:
    servers = FakeServers()
    async with pool_of(servers) as pool:
        async with await pool.acquire("a") as lease:
            servers.created[0].crash()
            assert await lease.failure() == "a crashed"
            await wait_until_async(lambda: states(pool) == {})
            async with asyncio.timeout(2), await pool.acquire("a") as again:
                assert await again.failure() is None
        assert pool.states()["a"].leases == 0
    assert len(servers.created) == 2
    assert "a ended unexpectedly: a crashed" in caplog.text


async def test_a_crash_while_idle_is_noticed() -> None:
    servers = FakeServers()
    async with pool_of(servers) as pool:
        await pool.load("a")
        servers.created[0].crash()
        await wait_until_async(lambda: states(pool) == {})
        await pool.load("a")
        assert states(pool) == {"a": "resident"}


async def test_a_model_idle_for_its_ttl_is_stopped() -> None:
    servers = FakeServers()
    async with pool_of(servers, ttl=0.05) as pool:
        async with await pool.acquire("a"):
            await asyncio.sleep(0.1)
            assert servers.created[0].up
        await wait_until_async(lambda: not servers.running, timeout=1)


async def test_a_model_stops_after_its_ttl_even_if_another_has_a_longer_one() -> None:
    servers = FakeServers()
    async with pool_of(servers, ttl=0.05, ttls={"b": 60.0}) as pool:
        await pool.load("b")
        async with await pool.acquire("a"):
            pass
        await wait_until_async(lambda: states(pool) == {"b": "resident"}, timeout=1)


async def test_unload_waits_for_running_requests_and_new_ones_wait_for_a_new_server() -> None:
    servers = FakeServers()
    async with pool_of(servers) as pool:
        assert await pool.unload("a") is False
        held = await pool.acquire("a")
        unloading = asyncio.create_task(pool.unload("a"))
        await asyncio.sleep(0)
        later = asyncio.create_task(pool.acquire("a"))
        await wait_until_async(lambda: pool.states()["a"].waiting == 1)
        assert servers.created[0].up
        async with held:
            pass
        assert await unloading is True
        async with await later:
            pass
    assert len(servers.created) == 2


async def test_unload_stops_a_model_that_is_still_loading(caplog: pytest.LogCaptureFixture) -> None:
    servers = FakeServers(a={"load_s": None})
    async with pool_of(servers) as pool:
        loading = asyncio.create_task(pool.load("a"))
        await wait_until_async(lambda: states(pool) == {"a": "loading"})
        loading.cancel()
        await asyncio.wait([loading])
        assert await pool.unload("a") is True
        assert states(pool) == {}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_load_returns_at_once_if_the_model_is_loaded_and_busy() -> None:
    async with pool_of(FakeServers(), slots=1) as pool, await pool.acquire("a"):
        async with asyncio.timeout(1):
            await pool.load("a")


async def test_a_lease_is_given_back_only_once() -> None:
    async with pool_of(FakeServers()) as pool:
        lease, other = await pool.acquire("a"), await pool.acquire("a")
        async with lease:
            pass
        async with lease:
            pass
        assert pool.states()["a"].leases == 1
        async with other:
            pass


async def test_close_stops_every_model_and_refuses_waiting_requests(caplog: pytest.LogCaptureFixture) -> None:
    servers = FakeServers(b={"load_s": None}, a={"stop_s": 0.05})
    caplog.set_level(logging.INFO)
    async with pool_of(servers, slots=1) as pool:
        held = await pool.acquire("a")
        waiting = [asyncio.create_task(pool.acquire(tier)) for tier in ("a", "b", "c")]
        await wait_until_async(lambda: pool.states()["c"].waiting == 1)
        unloading = asyncio.create_task(pool.unload("a"))
        await asyncio.gather(pool.close(), pool.close())
        assert servers.running == []
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(result) for result in results] == ["the router is stopping"] * 3
        assert await unloading is True
        async with held:
            pass
        with pytest.raises(TierUnavailableError, match="the router is stopping"):
            await pool.acquire("a")
        await pool.close()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_model_larger_than_the_budget_is_loaded_alone_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with pool_of(FakeServers(), budget=0) as pool:
        for tier in ("a", "b", "a"):
            await pool.load(tier)
            assert states(pool) == {tier: "resident"}
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.partition(",")[0] for text in warnings] == ["a needs 0.0 GB", "b needs 0.0 GB"]
    assert all("more than the whole budget" in text for text in warnings)


async def test_two_hundred_requests_for_four_tiers_are_served_with_memory_for_two() -> None:
    slow = MappingProxyType({"load_s": 0.01, "stop_s": 0.005})
    servers = FakeServers(**dict.fromkeys(TIERS, slow))
    async with pool_of(servers, patience_s=0.05) as pool:

        async def request(number: int) -> str:
            async with await pool.acquire(TIERS[number * 7 % 4]) as lease:
                assert await lease.failure() is None
                assert len(servers.running) <= 2
                await asyncio.sleep(0.002)
                return lease.tier

        async with asyncio.timeout(20):
            served = await asyncio.gather(*(request(number) for number in range(200)))
        assert served == [TIERS[number * 7 % 4] for number in range(200)]
        assert pool.states()["a"].waiting == 0
    assert servers.max_running <= 2


async def test_reading_starts_nothing_and_waits_for_nothing() -> None:
    servers = FakeServers(b={"load_s": None})
    async with pool_of(servers, budget=1, slots=1) as pool:
        await pool.load("a")
        with pytest.raises(RequestFailedError, match="run `llmstack load b`") as raised:
            await pool.acquire_loaded("b")
        assert (raised.value.report.status, raised.value.report.code) == (409, "not_loaded")
        assert states(pool) == {"a": "resident"}
        async with (
            await pool.acquire("a", "session"),  # its only slot
            await pool.acquire_loaded("a") as first,
            await pool.acquire_loaded("a") as second,
        ):
            assert (first.url, second.slot, pool.states()["a"].leases) == ("http://a", None, 3)
        assert pool.has_free_slot("a")
    assert len(servers.created) == 1


async def test_a_model_that_is_read_is_stopped_right_after_and_read_no_more() -> None:
    servers = FakeServers()
    async with pool_of(servers, budget=1, slots=1) as pool:
        await pool.load("a")
        async with await pool.acquire_loaded("a"):
            unloading = asyncio.create_task(pool.unload("a"))
            await asyncio.sleep(0)  # it has asked now, and waits
            assert not servers.created[0].stopping
            with pytest.raises(RequestFailedError, match="is not loaded"):
                await pool.acquire_loaded("a")
        assert await unloading
        assert servers.created[0].stopping


async def test_a_model_that_is_being_read_makes_room_afterwards() -> None:
    servers = FakeServers()
    async with pool_of(servers, budget=1, slots=1, ttl=0) as pool:
        await pool.load("a")
        async with await pool.acquire_loaded("a"):
            loading = asyncio.create_task(pool.load("b"))
            await wait_until_async(lambda: pool.states()["b"].waiting == 1)
            assert states(pool) == {"a": "resident"}
        await loading
        assert states(pool) == {"b": "resident"}

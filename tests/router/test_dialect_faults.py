"""Every API's own client with a model server that fails in every phase: it gets a response or an error."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from benchmarks import faults
from router.clients import DONE
from router.faults import (
    APIS,
    BEFORE_CONTENT,
    HELLO,
    Api,
    close,
    cut_in_the_middle,
    reset,
    reset_in_the_middle,
)
from router.harness import IncomingRequest, RunningRouter, stack, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ERRORS = (openai.APIError, anthropic.APIError)


@contextlib.asynccontextmanager
async def failing(script: Callable[[IncomingRequest], Awaitable[None]]) -> AsyncIterator[RunningRouter]:
    async with stack(script) as (running, _):
        yield running
        await running.wait_until_idle()


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
@pytest.mark.parametrize("fault", [*BEFORE_CONTENT, cut_in_the_middle, reset_in_the_middle])
async def test_a_failed_response_raises_in_every_client(api: Api, fault: Any) -> None:
    async def script(request: IncomingRequest) -> None:
        await fault(request, json.dumps(api.response).encode())

    async with failing(script) as running:
        with pytest.raises(ERRORS):
            await asyncio.wait_for(api.send(running.url, stream=False), 10)


STREAMING = {name: api for name, api in APIS.items() if api.events}


@pytest.mark.parametrize("api", STREAMING.values(), ids=STREAMING)
@pytest.mark.parametrize("fault", BEFORE_CONTENT)
async def test_a_stream_that_fails_before_content_raises_in_every_client(api: Api, fault: Any) -> None:
    async def script(request: IncomingRequest) -> None:
        await fault(request, b"")

    async with failing(script) as running:
        with pytest.raises(ERRORS):
            await asyncio.wait_for(api.send(running.url, stream=True), 10)


ENDS: dict[str, Callable[[IncomingRequest], Awaitable[None]]] = {
    "clean": IncomingRequest.end_stream,
    "closed": lambda request: close(request, b""),
    "reset": lambda request: reset(request, b""),
}


@pytest.mark.parametrize("api", STREAMING.values(), ids=STREAMING)
@pytest.mark.parametrize("end", ENDS)
async def test_a_stream_cut_at_any_point_raises_in_every_client(api: Api, end: str) -> None:
    """After each event, in the middle of each, and just before the end of the one that ends it."""
    whole = b"".join(api.events)
    last = api.events[-2] if api.events[-1] == DONE else api.events[-1]
    last_at = whole.index(last)
    cuts = [0]
    for one in api.events[: api.events.index(last)]:
        cuts += [cuts[-1] + len(one)]
    cuts += [at - 20 for at in cuts[1:]] + [last_at + 20, last_at + len(last) - 1]
    cut = 0

    async def script(request: IncomingRequest) -> None:
        await request.start_stream()
        if cut:
            await request.chunk(whole[:cut])
        await ENDS[end](request)

    async with failing(script) as running:
        for position in cuts:
            cut = position
            # The SDKs parse an incomplete event, and raise before the error event arrives.
            with pytest.raises((*ERRORS, json.JSONDecodeError)):
                await asyncio.wait_for(api.send(running.url, stream=True), 10)
            running.app.service.cooldowns.note_success("code-ultra")


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
async def test_every_client_reads_a_complete_response(api: Api) -> None:
    """Also if the server sends one byte at a time."""

    async def script(request: IncomingRequest) -> None:
        if json.loads(request.body).get("stream"):
            await request.start_stream()
            for at in range(len(whole)):
                await request.chunk(whole[at : at + 1])
            await request.end_stream()
        else:
            await request.respond(json.dumps(api.response).encode())

    whole = b"".join(api.events)
    async with failing(script) as running:
        assert await api.send(running.url, stream=False) == HELLO
        if api.events:
            assert await api.send(running.url, stream=True) == HELLO
        assert {record["outcome"] for record in running.recent} == {"ok"}


@pytest.mark.parametrize("api", STREAMING.values(), ids=STREAMING)
async def test_a_client_that_disconnects_cancels_the_server_request(api: Api) -> None:
    hung_up = asyncio.Event()

    async def script(request: IncomingRequest) -> None:
        await request.start_stream()
        await request.chunk(api.events[0])
        await request.wait_until_disconnected()
        hung_up.set()

    async with failing(script) as running:
        request_task = asyncio.ensure_future(api.send(running.url, stream=True))
        await wait_until(lambda: running.swapper.leases == 1, "the server has the request")
        request_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await request_task
        await asyncio.wait_for(hung_up.wait(), 10)


async def test_concurrent_failures_leak_nothing_and_every_client_gets_a_result() -> None:
    """A sample; `benchmarks/faults.py` sends ten thousand."""
    outcomes = await faults.run(requests=300, seed=1)
    assert outcomes.keys() <= {"whole", "error", "error event", "client left"}

"""Every API's own client against a model server that fails at every phase: an answer or an error, no less."""

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
from router.harness import Asked, Running, stack, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ERRORS = (openai.APIError, anthropic.APIError)


@contextlib.asynccontextmanager
async def failing(script: Callable[[Asked], Awaitable[None]]) -> AsyncIterator[Running]:
    async with stack(script) as (running, _):
        yield running
        await running.idle()


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
@pytest.mark.parametrize("fault", [*BEFORE_CONTENT, cut_in_the_middle, reset_in_the_middle])
async def test_a_whole_answer_that_fails_is_an_error(api: Api, fault: Any) -> None:
    async def script(asked: Asked) -> None:
        await fault(asked, json.dumps(api.whole).encode())

    async with failing(script) as running:
        with pytest.raises(ERRORS):
            await asyncio.wait_for(api.ask(running.url, stream=False), 10)


STREAMING = {name: api for name, api in APIS.items() if api.events}


@pytest.mark.parametrize("api", STREAMING.values(), ids=STREAMING)
@pytest.mark.parametrize("fault", BEFORE_CONTENT)
async def test_a_stream_that_does_not_start_is_an_error(api: Api, fault: Any) -> None:
    async def script(asked: Asked) -> None:
        await fault(asked, b"")

    async with failing(script) as running:
        with pytest.raises(ERRORS):
            await asyncio.wait_for(api.ask(running.url, stream=True), 10)


ENDS: dict[str, Callable[[Asked], Awaitable[None]]] = {
    "clean": Asked.end_stream,
    "closed": lambda asked: close(asked, b""),
    "reset": lambda asked: reset(asked, b""),
}


@pytest.mark.parametrize("api", STREAMING.values(), ids=STREAMING)
@pytest.mark.parametrize("how", ENDS)
async def test_a_stream_that_is_cut_anywhere_is_an_error(api: Api, how: str) -> None:
    """After each event, in the middle of each, and just before the end of the one that ends it."""
    whole = b"".join(api.events)
    last = api.events[-2] if api.events[-1] == DONE else api.events[-1]
    end = whole.index(last)
    cuts = [0]
    for one in api.events[: api.events.index(last)]:
        cuts += [cuts[-1] + len(one)]
    cuts += [cut - 20 for cut in cuts[1:]] + [end + 20, end + len(last) - 1]
    cut = 0

    async def script(asked: Asked) -> None:
        await asked.start_stream()
        if cut:
            await asked.chunk(whole[:cut])
        await ENDS[how](asked)

    async with failing(script) as running:
        for place in cuts:
            cut = place
            # Of an event that was cut the SDKs read what there is of it, and raise before the error comes.
            with pytest.raises((*ERRORS, json.JSONDecodeError)):
                await asyncio.wait_for(api.ask(running.url, stream=True), 10)
            running.app.service.cooldowns.note_success("code-ultra")


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
async def test_a_server_that_works(api: Api) -> None:
    """Also one that says a byte at a time."""

    async def script(asked: Asked) -> None:
        if json.loads(asked.body).get("stream"):
            await asked.start_stream()
            for at in range(len(whole)):
                await asked.chunk(whole[at : at + 1])
            await asked.end_stream()
        else:
            await asked.answer(json.dumps(api.whole).encode())

    whole = b"".join(api.events)
    async with failing(script) as running:
        assert await api.ask(running.url, stream=False) == HELLO
        if api.events:
            assert await api.ask(running.url, stream=True) == HELLO
        assert {record["outcome"] for record in running.recent} == {"ok"}


@pytest.mark.parametrize("api", STREAMING.values(), ids=STREAMING)
async def test_a_client_that_leaves_ends_the_request(api: Api) -> None:
    hung_up = asyncio.Event()

    async def script(asked: Asked) -> None:
        await asked.start_stream()
        await asked.chunk(api.events[0])
        await asked.until_hung_up()
        hung_up.set()

    async with failing(script) as running:
        asking = asyncio.ensure_future(api.ask(running.url, stream=True))
        await until(lambda: running.swapper.held == 1, "the model is asked")
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(hung_up.wait(), 10)


async def test_many_at_once_leave_nothing_and_none_ends_without_a_word() -> None:
    """A sample of `benchmarks/faults.py`, which takes ten thousand by hand."""
    seen = await faults.run(requests=300, seed=1)
    assert seen.keys() <= {"whole", "error", "error event", "client left"}

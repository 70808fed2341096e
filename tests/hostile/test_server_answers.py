"""Answers of a hostile model server: the client gets a whole response or an error, and the next is served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from benchmarks.faults import open_resources
from hostile.answers import BODY, send
from hostile.broken_answers import BROKEN
from hostile.odd_answers import ODD
from hostile.stream_answers import STREAMS
from hostile.wire import Answer, exchange, read_answers, require_nothing_left
from router.clients import chat_request, well_behaved
from router.harness import IncomingRequest, RunningRouter, ScriptedServer, stack, wait_until
from router.raw_http import whole_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hostile.answers import Case

CASES: tuple[Case, ...] = (*BROKEN, *ODD, *STREAMS)
LAST_EVENT_IS_ERROR = b'data: {"error":'


async def answer_as_asked(request: IncomingRequest) -> None:
    """Answer with the case that the body of the request names."""
    number = json.loads(request.body).get("case")
    if number is None:
        await well_behaved(request)
    else:
        await send(CASES[number], request)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hostile_stack() -> AsyncIterator[tuple[RunningRouter, ScriptedServer]]:
    async with stack(answer_as_asked) as (running, server):
        tasks, descriptors = open_resources()
        yield running, server
        await require_nothing_left(running, server)
        await wait_until(lambda: open_resources()[0] <= tasks, "every task has ended")
        await wait_until(lambda: open_resources()[1] <= descriptors, "every descriptor is closed")


def request_for(case: Case | None, *, wants_stream: bool) -> bytes:
    fields: dict[str, Any] = {} if case is None else {"case": CASES.index(case)}
    body = chat_request(model="plan", stream=wants_stream, **fields)
    return whole_request(json.dumps(body).encode(), "connection: close")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_holds(
    case: Case, hostile_stack: tuple[RunningRouter, ScriptedServer], caplog: pytest.LogCaptureFixture
) -> None:
    running, server = hostile_stack
    sent = request_for(case, wants_stream=case.wants_stream)
    if case.outcome == "left":
        await leave(running, server, sent)
    else:
        (answer,) = read_answers(await exchange(running.port, sent))
        require_outcome(case, answer)
    if case.end == "late":
        await server.requests[-1].send(case.pieces[-1])
        await wait_until(lambda: server.open == 0, "the connection to the server is closed")
    await running.wait_until_idle()
    await next_client_is_served(running, server)
    await wait_until(lambda: server.open <= 1, "only the last connection to the server is open")
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


async def leave(running: RunningRouter, server: ScriptedServer, sent: bytes) -> None:
    """Send a request, and leave once the server has it; the server is told."""
    server.requests.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(sent)
    await wait_until(lambda: bool(server.requests), "the server has the request")
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await wait_until(lambda: server.open == 0, "the request at the server is cancelled")


def require_outcome(case: Case, answer: Answer) -> None:
    assert "x-evil" not in answer.headers
    assert not any(name.startswith(("access-control-", "x-llmstack-evil")) for name in answer.headers)
    assert answer.headers["x-llmstack-tier"] == "plan"
    if case.outcome == "error":
        assert answer.status >= 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.error
        return
    if case.outcome in {"empty", "odd"}:
        assert (answer.status // 100, answer.body) != (2, BODY)
        assert b"forged" not in answer.body
        return
    assert answer.status == 200
    assert b"forged" not in answer.body
    if case.body:
        assert answer.body == case.body
    if case.outcome in {"stream", "cut"}:
        assert answer.headers["content-type"] == "text/event-stream"
        last_event = answer.body.rstrip().rpartition(b"\n\n")[2]
        assert last_event.startswith(LAST_EVENT_IS_ERROR) is (case.outcome == "cut")


async def next_client_is_served(running: RunningRouter, server: ScriptedServer) -> None:
    server.requests.clear()
    (answer,) = read_answers(await exchange(running.port, request_for(None, wants_stream=False)))
    assert (answer.status, answer.body) == (200, BODY)
    assert len(server.requests) == 1


def test_there_are_as_many_cases_as_were_tried_by_hand() -> None:
    assert len({(case.pieces, case.end, case.wants_stream) for case in CASES}) == len(CASES) >= 208

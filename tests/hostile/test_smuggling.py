"""Request smuggling: what the model server gets is what the router read, and one request is one request."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from hostile.framing_cases import CHUNK_SIZES, ENCODINGS, LENGTHS, TWO_LENGTHS
from hostile.head_cases import HEADS, INJECTED, PIPELINED
from hostile.smuggling import LAST, chat
from hostile.wire import Answer, exchange, read_answers, require_nothing_left
from router.clients import COMPLETION
from router.harness import IncomingRequest, RunningRouter, ScriptedServer, Setup, stack
from router.raw_http import CHAT

from llmstack.router.http.limits import HttpLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hostile.smuggling import Case

CODES = {
    400: "invalid_http",
    408: "request_timeout",
    413: "body_too_large",
    414: "uri_too_long",
    431: "headers_too_large",
}
# Short, so that a request that never ends is a 408 at once.
LIMITS = HttpLimits(head_s=0.15, body_s=0.15, body_rate=1e9, linger_s=0.3, sweep_s=0.05)
CASES = (
    *TWO_LENGTHS,
    *LENGTHS,
    *ENCODINGS,
    *CHUNK_SIZES,
    *HEADS,
    *PIPELINED,
    *INJECTED,
)


async def answer_at_once(request: IncomingRequest) -> None:
    await request.respond(json.dumps(COMPLETION).encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router_with_short_limits() -> AsyncIterator[tuple[RunningRouter, ScriptedServer]]:
    async with stack(answer_at_once, Setup(limits=LIMITS)) as (running, server):
        yield running, server
        await require_nothing_left(running, server)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_holds(
    case: Case,
    router_with_short_limits: tuple[RunningRouter, ScriptedServer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each is sent twice: the second time its head may be recognized instead of parsed."""
    running, server = router_with_short_limits
    whole, in_pieces = (case.sent + case.end,), (case.sent[:40], case.sent[40:], case.end)
    for pieces in (whole, in_pieces, whole):
        server.requests.clear()
        answers = read_answers(await exchange(running.port, *pieces))
        assert tuple(answer.status for answer in answers) == case.statuses
        require_well_marked(answers)
        assert tuple(request.body for request in server.requests) == case.forwarded
        for request in server.requests:
            require_unchanged(case, request)
    await server_is_unharmed(running, server)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def require_well_marked(answers: list[Answer]) -> None:
    """Verify that the last response alone ends the connection, and names its reason if it is an error."""
    *others, last = answers
    assert all("connection" not in answer.headers for answer in others)
    assert last.headers["connection"] == "close"
    if last.status in CODES:
        assert json.loads(last.body)["error"]["code"] == CODES[last.status]


def require_unchanged(case: Case, request: IncomingRequest) -> None:
    """Verify that the model server got no line that the client did not send as a header."""
    assert request.line.split(" ")[0] in {"POST", "GET"}
    assert request.line.split(" ")[2:] == ["HTTP/1.1"]
    assert "smuggled" not in request.line.partition("?")[0].partition("%")[0]
    assert "x-smuggled" not in request.headers
    assert "transfer-encoding" not in request.headers
    assert "\n" not in "".join(request.headers.values())
    if case.header is not None:
        name, value = case.header
        assert request.headers.get(name) == value


async def server_is_unharmed(running: RunningRouter, server: ScriptedServer) -> None:
    """Verify that the next client is served, on the same connection to the model server or another one."""
    server.requests.clear()
    answers = read_answers(await exchange(running.port, chat() + LAST))
    assert [answer.status for answer in answers] == [200, 200]
    assert [request.body for request in server.requests] == [CHAT]


def test_there_are_as_many_cases_as_were_tried_by_hand() -> None:
    assert len({case.sent for case in CASES}) == len(CASES) >= 107

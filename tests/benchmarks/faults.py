"""Many requests to model servers that fail: `python tests/benchmarks/faults.py --requests 10000`.

API, fault and phase of each request are drawn from a fixed seed; some clients disconnect. Fails if a request
hangs, if an incomplete stream ends like a complete one, or if a task, connection or descriptor is leaked.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from router.faults import APIS, BEFORE_CONTENT, Api, cut_in_the_middle, reset_in_the_middle
from router.harness import IncomingRequest, stack, wait_until

if TYPE_CHECKING:
    from router.harness import RunningRouter

CONCURRENCY = 20
DEADLINE_S = 20.0
PATHS = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
BODY = {"messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x", "max_tokens": 9}
PROPER_ENDS = (b'"finish_reason": "stop"', b"response.completed", b"message_stop")
FAULTS = ("before", "cut", "dropped", "drip", "hang", "whole")


@dataclass(frozen=True)
class Case:
    """One request: its API, how the server fails, and whether the client disconnects."""

    name: str
    stream: bool
    fault: str
    choice: int
    disconnects: bool

    @property
    def api(self) -> Api:
        return APIS[self.name]


def draw_case(rng: random.Random) -> Case:
    return Case(
        rng.choice(sorted(PATHS)),
        stream=rng.random() < 0.6,
        fault=rng.choice(FAULTS),
        choice=rng.randrange(1000),
        disconnects=rng.random() < 0.15,
    )


async def serve(request: IncomingRequest, case: Case) -> None:
    """Respond as the case says."""
    whole = b"".join(case.api.events) if case.stream else json.dumps(case.api.response).encode()
    cut = case.choice % len(whole)
    if case.fault == "hang":
        await request.wait_until_disconnected()
    elif case.fault == "before":
        await BEFORE_CONTENT[case.choice % len(BEFORE_CONTENT)](request, whole)
    elif not case.stream:
        if case.fault in {"cut", "dropped"}:
            await (cut_in_the_middle if case.fault == "cut" else reset_in_the_middle)(request, whole)
        else:
            await request.respond(whole)
    else:
        await request.start_stream()
        if case.fault in {"cut", "dropped"}:
            await request.chunk(whole[:cut] or b":\n\n")
            request.close() if case.fault == "cut" else request.reset()
            return
        step = 7 if case.fault == "drip" else len(whole)
        for at in range(0, len(whole), step):
            await request.chunk(whole[at : at + step])
        await request.end_stream()


async def send(running: RunningRouter, case: Case) -> str:
    """Send one request; return how it ended."""
    body = json.dumps({**BODY, "model": "auto", "stream": case.stream, "case": case.__dict__}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        head = f"POST {PATHS[case.name]} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        if case.disconnects or case.fault == "hang":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(case.choice / 10_000):
                    await reader.read()
            return "client left"
        async with asyncio.timeout(DEADLINE_S):
            response = await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return outcome(response, case)


def outcome(response: bytes, case: Case) -> str:
    status = int(response.split()[1])
    if status >= 400:
        return "error" if response.partition(b"\r\n\r\n")[2] else f"mute error {status}"
    if not case.stream:
        return "whole"
    body = dechunk(response)
    if b'"error"' in body:
        return "error event"
    return "whole" if any(end in body for end in PROPER_ENDS) else "SILENT CUT"


def dechunk(response: bytes) -> bytes:
    """Return the body of a chunked response: a chunk may end in the middle of a word."""
    rest, parts = response.partition(b"\r\n\r\n")[2], []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return b"".join(parts)


def open_resources() -> tuple[int, int]:
    """Return how many tasks and descriptors this process has; the router runs in it."""
    descriptors = len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0
    return len(asyncio.all_tasks()), descriptors


async def run(requests: int, seed: int) -> collections.Counter[str]:
    """Send the requests; return how many had each outcome.

    Raises:
        AssertionError: something leaked, or a request had an outcome that it must not have.
    """
    outcomes: collections.Counter[str] = collections.Counter()

    async def script(request: IncomingRequest) -> None:
        await serve(request, Case(**json.loads(request.body)["case"]))

    async with stack(script) as (running, server):
        before = open_resources()

        async def worker(number: int) -> None:
            rng = random.Random(seed * 1000 + number)  # noqa: S311 - no secret
            for _ in range(requests // CONCURRENCY):
                case = draw_case(rng)
                outcomes[await send(running, case)] += 1

        await asyncio.gather(*map(worker, range(CONCURRENCY)))
        await running.wait_until_idle()
        await wait_until(
            lambda: not server.open or open_resources()[0] <= before[0] + server.open,
            "the tasks of requests have ended",
        )
        idle_connections = server.open  # to the server, kept for the next request
        tasks, descriptors = open_resources()
        assert tasks <= before[0] + 2 * idle_connections, f"tasks {before[0]} -> {tasks}"
        assert descriptors <= before[1] + 2 * idle_connections, (
            f"descriptors {before[1]} -> {descriptors}, {idle_connections} idle"
        )
    bad = [name for name in outcomes if name.isupper() or name.startswith("mute")]
    assert not bad, f"{bad}: {outcomes}"
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options: Any = parser.parse_args()
    started = time.monotonic()
    outcomes = asyncio.run(run(options.requests, options.seed))
    print(f"{sum(outcomes.values())} requests in {time.monotonic() - started:.0f} s: {dict(outcomes)}")


if __name__ == "__main__":
    main()

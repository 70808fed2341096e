"""Many broken requests at the router's HTTP layer: `python tests/benchmarks/fuzz_http.py --cases 100000`.

Fails on a 5xx response, a connection, request or file descriptor that is leaked, or a log entry above INFO.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import logging
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from router.broken_requests import broken_request, send_and_read_statuses
from router.clients import well_behaved
from router.harness import Setup, stack, wait_until

from llmstack.router.http.event_loop import new_loop
from llmstack.router.http.limits import HttpLimits

CONCURRENCY = 40


class WarningCollector(logging.Handler):
    """Collects the log records above INFO."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


async def run(cases: int, seed: int) -> int:
    warnings = WarningCollector()
    logging.getLogger().addHandler(warnings)
    counts: collections.Counter[int] = collections.Counter()
    # Short limits: a client that falls silent does not slow the run down.
    setup = Setup(limits=HttpLimits(linger_s=1, head_s=1, body_s=1, sweep_s=0.1))
    async with stack(well_behaved, setup) as (running, _):
        before = descriptors()

        async def worker(number: int) -> None:
            rng = random.Random(seed * 1000 + number)  # noqa: S311 - no secret
            for _ in range(cases // CONCURRENCY):
                data = broken_request(rng)
                async with asyncio.timeout(30):
                    statuses = await send_and_read_statuses(running.port, data, rng)
                counts.update(statuses)
                if any(status >= 500 for status in statuses):
                    raise RuntimeError(f"{statuses}: {data[:2000]!r}")

        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(CONCURRENCY):
                group.create_task(worker(number))
        await wait_until(lambda: running.server.connections == 0, "every connection is closed")
        await running.wait_until_idle()
        await running.app.service.upstream.close()
        await wait_until(lambda: descriptors() <= before, "every file descriptor is closed")
        seconds = time.monotonic() - started
    print(f"{cases} cases with seed {seed} in {seconds:.0f} s; responses: {dict(sorted(counts.items()))}")
    print(f"log entries above INFO: {len(warnings.records)} {warnings.records[:3]}")
    return 1 if warnings.records else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--asyncio", action="store_true", help="on asyncio's own event loop")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=None if options.asyncio else new_loop) as runner:
        sys.exit(runner.run(run(options.cases, options.seed)))


if __name__ == "__main__":
    main()

"""Many concurrent streams: `python tests/benchmarks/streams.py --streams 1000`.

`--large 0.1` sends large requests at the same time.

Each chunk has the time at which the model server sent it. The delay is measured from then until the client
has the chunk, once directly and once through the router. `--requests 100000` measures the router's memory
instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.forwarding import (
    STREAMS,
    UPSTREAM,
    Target,
    client,
    free_port,
    request,
    start_router,
    wait_for,
)

from llmstack.router.http.event_loop import new_loop

SENT = re.compile(rb"sent=([0-9.]+)")
PATH = "/v1/chat/completions"
PER_TIER = 220  # leaves some slots for the large requests: a tier accepts at most 256 requests at once


async def stream(port: int, model: str, seconds: float, start: float, delays: list[float]) -> None:
    """Read one stream of ten chunks a second."""
    pace = {"gap_s": 0.1, "chunks": int(seconds * 10)}
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}], "pace": pace}
    data = json.dumps(body).encode()
    await asyncio.sleep(start)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n".encode())
    writer.write(data)
    ended = False
    while not ended:
        part = await reader.read(65_536)
        now = time.monotonic()
        delays += [now - float(sent) for sent in SENT.findall(part)]
        ended = not part or part.endswith(b"0\r\n\r\n")
    writer.close()


async def send_large_requests(port: int, data: bytes, every_s: float) -> None:
    """Send large requests until cancelled, one every `every_s` seconds."""
    while True:
        await asyncio.gather(client(Target("", port, PATH, None), data, 1, []), asyncio.sleep(every_s))


async def measure_delays(port: int, options: argparse.Namespace, megabyte: bytes) -> list[float]:
    """Return the delays of all chunks, sorted, in seconds."""
    delays: list[float] = []
    large_requests = (
        asyncio.create_task(send_large_requests(port, megabyte, options.large)) if options.large else None
    )
    # Started over one second: real clients do not all start in the same millisecond.
    await asyncio.gather(
        *(
            stream(port, f"tier{number // PER_TIER or ''}", options.seconds, number / options.streams, delays)
            for number in range(options.streams)
        )
    )
    if large_requests is not None:
        large_requests.cancel()
    return sorted(delays)


async def measure_memory(port: int, process: psutil.Process, count: int) -> None:
    """Send requests of 2 KB and 100 KB, and print the router's memory after each tenth of them."""
    target = Target("", port, PATH, None)
    for tenth in range(11):
        print(f"{tenth * count // 10:>8} requests: {process.memory_info().rss / 2**20:.1f} MB", flush=True)
        if tenth < 10:
            sizes = [2_000, 2_000, 2_000, 2_000, 2_000, 2_000, 2_000, 100_000]
            data = [request(target, size, stream=False) for size in sizes]
            await asyncio.gather(*(client(target, each, count // 80, []) for each in data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--large", type=float, default=0.0, help="seconds between requests of 1 MB")
    parser.add_argument("--requests", type=int, default=0)
    options = parser.parse_args()
    direct = free_port()
    upstream = subprocess.Popen([sys.executable, str(UPSTREAM), "--port", str(direct)])
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner(loop_factory=new_loop) as runner:
        router, port = start_router(
            Path(directory), tiers=options.streams // PER_TIER + 1, parallel=PER_TIER + STREAMS
        )
        process = psutil.Process(router.pid)
        try:
            wait_for(direct)
            wait_for(port)
            runner.run(
                client(
                    Target("", port, PATH, None),
                    request(Target("", port, PATH, None), 99, stream=False),
                    3,
                    [],
                )
            )
            if options.requests:
                runner.run(measure_memory(port, process, options.requests))
                return
            # Created before the measurement: it takes seconds.
            megabyte = request(Target("", port, PATH, None), 1_000_000, stream=False)
            for name, target_port in (("direct", direct), ("router", port)):
                before = process.cpu_times()
                delays = runner.run(measure_delays(target_port, options, megabyte))
                after = process.cpu_times()
                cpu = after.user + after.system - before.user - before.system
                p50, p99 = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
                print(
                    f"{name}: {len(delays)} chunks, delay p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms,"
                    f" worst {delays[-1] * 1e3:.1f} ms; router CPU {cpu:.2f} s",
                    flush=True,
                )
        finally:
            router.terminate()
            upstream.terminate()
            router.wait()
            upstream.wait()


if __name__ == "__main__":
    main()

"""Count the CPU instructions that the router needs per request: `python tests/benchmarks/instructions.py`.

`--against TREE` also measures the router of another checkout, and prints the ratio of this tree to it.
"This tree" is the one that `llmstack` is imported from, so PYTHONPATH selects another one:
`PYTHONPATH=TREE python tests/benchmarks/instructions.py`.

Use it for differences that `forwarding.py` cannot show because the clock is too noisy: the counts of two
runs differ by less than 2 %, even on a busy machine. They include neither the kernel's work nor waiting.

Needs valgrind. Only the router runs in its tool callgrind, many times slower than usual; the client and the
model server run outside. One client sends one request at a time, the same one throughout a row, so the 100 KB
and 1 MB rows measure a conversation that the router has seen before. The counts include the router's timers;
the last row shows how little these need.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fixed_upstream import CHUNKS
from benchmarks.forwarding import (
    SIZES,
    SMALL,
    UPSTREAM,
    Target,
    client,
    request,
    router_env,
    wait_for,
    write_models_ini,
)

import llmstack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATH = "/v1/chat/completions"
START_TIMEOUT_S = 180
LOADING_REQUESTS = 60
WARM_UP_REQUESTS = 20  # until the interpreter has specialized its bytecode and the router's caches are full
WARM_UP_STREAMS = 3
REQUESTS_PER_STREAM = 20  # a stream takes seconds
GAP_S = 0.02  # between chunks; in callgrind, the router needs a few milliseconds for one
MAX_MERGED = 0.01  # the part of the chunks that may arrive together with another one
ATTEMPTS = 3
IDLE_S = 3.0


@dataclass
class CountedRouter:
    """A router that runs in callgrind.

    Attributes:
        out_file: callgrind adds `.1`, `.2`, ... to this path for each dump.
        dumps: how many dumps callgrind has written.
    """

    process: subprocess.Popen[bytes]
    port: int
    out_file: Path
    dumps: int = 0

    @property
    def target(self) -> Target:
        """The address for clients."""
        return Target("", self.port, PATH, None)

    def wait_until_up(self) -> None:
        """Wait until it listens and has loaded its model, then turn counting on.

        Until then it runs faster without. Loading has an aftermath of some million instructions, which the
        requests of this warm-up cover.
        """
        wait_for(self.port, self.process, timeout_s=START_TIMEOUT_S)
        data = request(self.target, SMALL, stream=False)
        asyncio.run(client(self.target, data, LOADING_REQUESTS, []))
        self._control("--instr=on")

    def count(self, work: Callable[[], None]) -> int:
        """Return how many instructions the router executes during `work`."""
        self._control("--zero")
        work()
        output = self._control("--dump")
        self.dumps += 1
        dump = self.out_file.with_name(f"{self.out_file.name}.{self.dumps}")
        if not dump.exists():
            raise RuntimeError(f"callgrind did not write {dump}: {output}")
        return read_total(dump)

    def _control(self, option: str) -> str:
        argv = ["callgrind_control", option, str(self.process.pid)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def read_total(dump: Path) -> int:
    """Return the number of instructions in a callgrind dump."""
    for line in dump.read_text().splitlines():
        if line.startswith("totals:"):
            return int(line.removeprefix("totals:"))
    raise RuntimeError(f"{dump}: expected a line `totals: NUMBER`")


@contextlib.contextmanager
def run_router(tree: Path) -> Iterator[CountedRouter]:
    """Run the router of a checkout in callgrind, in front of the fixed upstream."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        port = write_models_ini(directory)
        out_file = directory / "callgrind.out"
        argv = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out_file}"]
        argv += [f"--log-file={directory / 'valgrind.log'}"]
        argv += [sys.executable, "-m", "llmstack.router", "--work-dir", str(directory)]
        env = {
            **router_env(directory),
            "PYTHONPATH": str(tree),
            "PYTHONHASHSEED": "0",  # with random hashes, the work per set and dict differs between runs
            # Whether glibc copies a buffer that grows depends on what happens to lie behind it, and callgrind
            # counts each copied byte as an instruction (`rep movsb`). With this, it never copies: 1 MB then
            # has the same ratio as in CPU time.
            "MALLOC_MMAP_THRESHOLD_": "131072",
            "LLAMA_SERVER_BIN": str(UPSTREAM),
        }
        process = subprocess.Popen(argv, env=env, cwd=directory, stdin=subprocess.DEVNULL)
        try:
            yield CountedRouter(process, port, out_file)
        finally:
            process.terminate()
            process.wait()


def count_chats(router: CountedRouter, size: int, requests: int) -> float:
    """Return the instructions per chat request of about `size` bytes."""
    data = request(router.target, size, stream=False)
    asyncio.run(client(router.target, data, WARM_UP_REQUESTS, []))
    return router.count(lambda: asyncio.run(client(router.target, data, requests, []))) / requests


def count_streams(router: CountedRouter, streams: int) -> float:
    """Return the instructions per stream, with each chunk forwarded on its own.

    Raises:
        RuntimeError: too many chunks arrived together, in every attempt.
    """
    pace = {"gap_s": GAP_S, "chunks": CHUNKS}
    data = request(router.target, SMALL, stream=True, pace=pace)
    asyncio.run(read_streams(router.port, data, WARM_UP_STREAMS))
    reads: list[int] = []
    for _ in range(ATTEMPTS):
        total = router.count(lambda: reads.append(asyncio.run(read_streams(router.port, data, streams))))
        if reads[-1] >= streams * CHUNKS * (1 - MAX_MERGED):
            return total / streams
    raise RuntimeError(
        f"{streams * CHUNKS} chunks arrived in only {reads[-1]} reads: try again when the machine is idle"
    )


async def read_streams(port: int, data: bytes, streams: int) -> int:
    """Return how many reads brought chunks; this is the number of chunks if each arrives on its own."""
    reads = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(streams):
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            part = await reader.read(65_536)
            if not part:
                raise RuntimeError(f"the stream ended early, after {tail!r}")
            reads += b"sent=" in part
            tail = (tail + part)[-100:]
    writer.close()
    return reads


def print_row(name: str, counts: Sequence[float]) -> None:
    """Print the instructions in thousands, and with two trees the ratio of the first to the second."""
    ratio = f"{counts[0] / counts[1]:>10.3f}" if len(counts) > 1 else ""
    print(f"{name:<30}" + "".join(f"{count / 1e3:>12.1f}" for count in counts) + ratio, flush=True)


def measure(trees: Sequence[Path], requests: int) -> None:
    """Start the routers of all trees at once, then measure them row by row."""
    streams = max(1, requests // REQUESTS_PER_STREAM)
    with contextlib.ExitStack() as stack:
        routers = [stack.enter_context(run_router(tree)) for tree in trees]
        for router in routers:
            router.wait_until_up()
        other = f"{'other':>12}{'ratio':>10}" if len(trees) > 1 else ""
        print(f"{'thousands of instructions':<30}{'this':>12}{other}")
        for name, size in SIZES.items():
            print_row(f"chat, {name}", [count_chats(router, size, requests) for router in routers])
        print_row(f"stream, {CHUNKS} chunks", [count_streams(router, streams) for router in routers])
        idle = [router.count(lambda: time.sleep(IDLE_S)) / IDLE_S for router in routers]
        print_row("idle, per second", idle)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, metavar="TREE", help="another checkout to measure too")
    parser.add_argument(
        "--requests",
        type=int,
        default=60,
        metavar="N",
        help=f"requests per row and tree (default 60); the stream row has one per {REQUESTS_PER_STREAM}",
    )
    options = parser.parse_args()
    if shutil.which("callgrind_control") is None:
        sys.exit("error: callgrind_control is not on PATH\nhint: install valgrind")
    trees = [Path(llmstack.__file__).parents[1]]
    if options.against is not None:
        trees.append(options.against.resolve())
    for name, tree in zip(("this", "other"), trees, strict=False):
        print(f"{name}: {tree}")
    measure(trees, options.requests)


if __name__ == "__main__":
    main()

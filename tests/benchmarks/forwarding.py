"""What the router costs: `python tests/benchmarks/forwarding.py`.

One run compares it with requests sent directly to the model server, and with llama-swap and LiteLLM if their
programs are on PATH. They take turns, several times in each row, so that other work on the machine affects
all of them.

CPU is the user and system time of the router process per request. Latencies are measured by the client, and
include the load generator's use of the machine: compare columns of one run, not different runs. The last
table does that: the router's cost as a share of each other proxy's.

Larger bodies have two rows: the same body sent repeatedly, as agents send a conversation with every turn,
and `new`, each body another conversation.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.trusting import trust

from llmstack.llama_cpp.tiny import write_echo
from llmstack.paths import Project

if TYPE_CHECKING:
    from collections.abc import Mapping

UPSTREAM = Path(__file__).with_name("fixed_upstream.py")
SMALL = 2_000
SIZES = {"2 KB": SMALL, "100 KB": 100_000, "1 MB": 1_000_000}
CLIENTS, STREAMS = 8, 32
TURNS = 5


@dataclass(frozen=True)
class Target:
    name: str
    port: int
    path: str
    process: psutil.Process | None
    model: str = "auto"


@dataclass
class Measurement:
    cpu_s: float = 0.0
    times: list[float] = field(default_factory=list)

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / len(self.times) * 1e6

    def part_ms(self, part: float) -> float:
        return sorted(self.times)[int(len(self.times) * part)] * 1e3


def request(target: Target, size: int, *, stream: bool, pace: Mapping[str, float] | None = None) -> bytes:
    """Return a chat request of about `size` bytes, shaped like an agent's: many messages, some tools.

    `pace` tells `fixed_upstream.py` how many chunks to stream and how far apart: `gap_s` and `chunks`.
    """
    tools = [
        {"type": "function", "function": {"name": f"tool_{number}", "parameters": {"type": "object"}}}
        for number in range(10)
    ]
    body = {"model": target.model, "stream": stream, "tools": tools, "messages": []}
    if pace is not None:
        body["pace"] = pace
    filler = "def f(x):\n    return x * 2  # a line of code\n" * 20
    messages = [{"role": "user", "content": "hello"}]
    length = len(json.dumps({**body, "messages": messages}))
    while length + len(filler) < size:
        messages.append({"role": "user" if len(messages) % 2 == 0 else "assistant", "content": filler})
        length += len(", " + json.dumps(messages[-1]))
    data = json.dumps({**body, "messages": messages}).encode()
    head = f"POST {target.path} HTTP/1.1\r\nhost: 127.0.0.1:{target.port}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
            return
    await reader.readuntil(b"0\r\n\r\n")


CONVERSATIONS = itertools.count(10_000)


def in_another_conversation(data: bytes) -> bytes:
    """Return the same request in another conversation."""
    return data.replace(b'"hello"', b'"%d"' % next(CONVERSATIONS), 1)


async def client(target: Target, data: bytes, count: int, times: list[float], *, new: bool = False) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=2**24)
    try:
        for _ in range(count):
            request_bytes = in_another_conversation(data) if new else data
            started_at = time.perf_counter()
            await exchange(reader, writer, request_bytes)
            times.append(time.perf_counter() - started_at)
    finally:
        writer.close()


async def measure(
    target: Target, data: bytes, measurement: Measurement, *, clients: int, each: int, new: bool
) -> None:
    await client(target, data, 2, [])
    before = target.process.cpu_times() if target.process else None
    await asyncio.gather(*(client(target, data, each, measurement.times, new=new) for _ in range(clients)))
    if target.process and before:
        after = target.process.cpu_times()
        measurement.cpu_s += after.user - before.user + after.system - before.system


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def write_models_ini(directory: Path, tiers: int = 1, parallel: int = STREAMS) -> int:
    """Write the models.ini and the model file of a router, and return the router's port."""
    write_echo(directory / "tier.gguf", speaker="tier")
    port = free_port()
    (directory / ".llmstack").mkdir()
    (directory / ".llmstack" / "models.ini").write_text(
        f"[DEFAULT]\nrouter_port = {port}\nstart_port = {free_port()}\nswap_port = {free_port()}\n"
        f"litellm_port = {free_port()}\nparallel = {parallel}\nmemory_gb = 1000\n"
        + "".join(
            f"[tier{number or ''}]\npath = {directory / 'tier.gguf'}\nctx_size = 1m\n"
            f"{'' if number else 'role = agent'}\n"
            for number in range(tiers)
        )
    )
    trust_project(directory)
    return port


def trust_project(directory: Path) -> None:
    """Trust the project in a list of its own, which a router with `router_env` reads."""
    trust_file = directory / "data" / "llmstack" / "trusted.toml"
    trust(Project.at(directory, {}), trust_file)


def router_env(directory: Path) -> dict[str, str]:
    """Return the environment of a router that leaves the user's own directories alone."""
    homes = {f"XDG_{kind}_HOME": str(directory / kind.lower()) for kind in ("DATA", "STATE", "CACHE")}
    return {**os.environ, **homes}


def start_router(
    directory: Path, tiers: int = 1, parallel: int = STREAMS
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a router whose tiers are served by the fixed upstream in place of llama-server."""
    port = write_models_ini(directory, tiers, parallel)
    env = {**router_env(directory), "LLAMA_SERVER_BIN": str(UPSTREAM)}
    argv = [sys.executable, "-m", "llmstack.router", "--work-dir", str(directory)]
    return subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL), port


def wait_for(port: int, process: subprocess.Popen[bytes] | None = None, timeout_s: float = 30) -> None:
    """Wait until a server listens on the port.

    Raises:
        RuntimeError: `process`, which was to listen there, has exited, or the time is up.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"exit status {process.returncode}: {process.args!r}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing listens on {port}")


def report(targets: list[Target], scale: float) -> None:
    print(f"{'':<22}" + "".join(f"{target.name:>34}" for target in targets))
    print(f"{'':<22}" + f"{'CPU us':>12}{'p50 ms':>11}{'p99 ms':>11}" * len(targets))
    rows = {}
    for name, size in SIZES.items():
        for clients, new in ((1, False), (CLIENTS, False), *(((CLIENTS, True),) if size > SMALL else ())):
            each = max(3, int(scale * 6_000_000 / (size + 100_000)) // clients)
            label = f"{name}, {clients} {'new' if new else 'clients'}"
            rows[label] = row(label, targets, size, clients=clients, each=each, new=new)
    label = f"stream, {STREAMS} clients"
    rows[label] = row(label, targets, SMALL, clients=STREAMS, each=max(1, int(scale)), stream=True)
    print_shares(targets, rows)


def row(
    name: str,
    targets: list[Target],
    size: int,
    *,
    clients: int,
    each: int,
    stream: bool = False,
    new: bool = False,
) -> list[Measurement]:
    """Measure every target, in turns; each client sends `each` requests per turn."""
    measurements = [Measurement() for _ in targets]
    for _ in range(TURNS):
        for target, measured in zip(targets, measurements, strict=True):
            data = request(target, size, stream=stream)
            asyncio.run(measure(target, data, measured, clients=clients, each=each, new=new))
    cells = ""
    for target, measured in zip(targets, measurements, strict=True):
        cpu = f"{measured.cpu_us:.0f}" if target.process else "-"
        cells += f"{cpu:>12}{measured.part_ms(0.5):>11.2f}{measured.part_ms(0.99):>11.2f}"
    print(f"{name:<22}{cells}", flush=True)
    return measurements


def print_shares(targets: list[Target], rows: dict[str, list[Measurement]]) -> None:
    """Print the router's cost as a share of each other proxy's."""
    for index, target in list(enumerate(targets))[2:]:
        print(f"\n{'of ' + target.name:<22}{'CPU':>12}{'p50':>11}")
        for name, measurements in rows.items():
            router, other = measurements[1], measurements[index]
            cpu, p50 = router.cpu_s / other.cpu_s, router.part_ms(0.5) / other.part_ms(0.5)
            print(f"{name:<22}{cpu:>12.2f}{p50:>11.2f}")


def other_proxies(directory: Path, upstream: int) -> list[tuple[str, list[str], int]]:
    """Return name, command line and port of the other proxies that are installed."""
    proxies = []
    if (program := shutil.which("llama-swap")) is not None:
        port, settings = free_port(), directory / "llama-swap.yaml"
        # As the stack configures it: requests are not captured or logged, and more than ten run at once.
        model = f"{{cmd: '{sys.executable} {UPSTREAM} --port ${{PORT}}', concurrencyLimit: 10000}}"
        settings.write_text(
            f"logLevel: warn\ncaptureBuffer: 0\nstartPort: {free_port()}\nmodels:\n  tier: {model}\n"
        )
        proxies.append(
            ("llama-swap", [program, "-config", str(settings), "-listen", f"127.0.0.1:{port}"], port)
        )
    if (program := shutil.which("litellm")) is not None:
        port, settings = free_port(), directory / "litellm.yaml"
        params = f"{{model: openai/tier, api_base: 'http://127.0.0.1:{upstream}/v1', api_key: none}}"
        settings.write_text(f"model_list:\n  - model_name: tier\n    litellm_params: {params}\n")
        proxies.append(("LiteLLM", [program, "--config", str(settings), "--port", str(port)], port))
    return proxies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=10.0, help="how many requests, 1 for a quick look")
    options = parser.parse_args()
    direct_port = free_port()
    path = "/v1/chat/completions"
    processes = [subprocess.Popen([sys.executable, str(UPSTREAM), "--port", str(direct_port)])]
    with tempfile.TemporaryDirectory() as directory:
        try:
            router, port = start_router(Path(directory))
            processes.append(router)
            wait_for(direct_port)
            wait_for(port)
            targets = [
                Target("direct", direct_port, path, None),
                Target("llmstack router", port, path, psutil.Process(router.pid)),
            ]
            for name, command, other_port in other_proxies(Path(directory), direct_port):
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                processes.append(process)
                wait_for(other_port)
                targets.append(Target(name, other_port, path, psutil.Process(process.pid), "tier"))
            report(targets, options.scale)
            rss = psutil.Process(router.pid).memory_info().rss / 2**20
            print(f"router memory afterwards: {rss:.0f} MB")
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


if __name__ == "__main__":
    main()

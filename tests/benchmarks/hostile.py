"""The router in front of hostile servers and clients: `python tests/benchmarks/hostile.py`.

For each case a router of its own is started. One request meets the hostile server, or is hostile itself,
while another client asks for `/health` every 10 ms. Printed are the status that the first client got, the
longest time that `/health` took, and the most memory that the router ever had (VmHWM). Linux only.

The limits are 100 ms and 300 MB; the exit status is 1 if a case exceeds them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.forwarding import free_port, router_env, trust_project, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

DEVNULL = asyncio.subprocess.DEVNULL
MB = 2**20
MAX_STALL_S, MAX_MEMORY_MB = 0.1, 300
POLL_S = 0.01
CASE_S = 120.0
CHAT = "/v1/chat/completions"
MCP_MODEL = Path(__file__).parents[1] / "support" / "mcp_model.py"
CHUNKED = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
PART = b"x" * (MB // 4)
JSON, EVENTS = b"application/json", b"text/event-stream"


@dataclass(frozen=True)
class Answer:
    """What the hostile server sends: `start`, and then `part` until it has sent `size` bytes."""

    status: bytes = b"200 OK"
    content_type: bytes = JSON
    start: bytes = b""
    part: bytes = PART
    size: int = 1024 * MB


@dataclass(frozen=True)
class Case:
    """One row: what the server answers to which request."""

    answer: Answer = Answer()
    tier: str = "near"
    path: str = CHAT
    stream: bool = False
    body: bytes | None = None
    prompt: str = "hello"

    def request(self) -> bytes:
        fields = {"model": self.tier, "stream": self.stream, "max_tokens": 9, "input": self.prompt}
        message = {"role": "user", "content": self.prompt}
        return self.body or json.dumps({**fields, "messages": [message]}).encode()


def messages(message: bytes, size: int = 60 * MB) -> bytes:
    """Return a body full of one message, with the model at its end."""
    count = size // (len(message) + 1)
    return b'{"messages":[' + b",".join([message] * count) + b'],"max_tokens":9,"model":"near"}'


def cases() -> Iterator[tuple[str, Case]]:
    yield "nothing hostile", Case(Answer(start=b"{}", part=b" ", size=1000))
    error = Answer(b"400 Bad Request")
    yield "1 GB error", Case(error)
    yield "1 GB error, tiny values", Case(Answer(b"400 Bad Request", start=b"[", part=b"[]," * (MB // 12)))
    yield "1 GB error, translated", Case(error, "far")
    yield "1 GB JSON", Case()
    yield "1 GB JSON, translated", Case(tier="far")
    yield "15 MB JSON of zeros", Case(Answer(start=b'{"a":[', part=b"0," * (MB // 8), size=15 * MB))
    yield "1 GB event", Case(Answer(content_type=EVENTS, start=b"data: "), stream=True)
    yield "1 GB event, translated", Case(Answer(content_type=EVENTS, start=b"data: "), "far", stream=True)
    for name, part in (("usage", b'"usage":{"a":'), ("comments", b":a\n"), ("empty events", b"\n\n")):
        answer = Answer(content_type=EVENTS, start=b"data: {", part=part * (MB // 4 // len(part)))
        yield f"1 GB stream of {name}", Case(answer, stream=True)
    nested = Answer(start=b'{"content":[', part=b"[]," * (MB // 12), size=3 * MB)
    yield "3 MB JSON of tiny values, translated", Case(nested, "far")
    tiny = b'{"role":"user","content":"a"}'
    yield "60 MB request, tiny messages", Case(body=messages(tiny))
    yield "60 MB request, empty messages", Case(body=messages(b"{}"))
    yield (
        "60 MB request, one message",
        Case(body=messages(b'{"role":"user","content":"' + b"<" * 59 * MB + b'"}')),
    )
    emoji = b'{"role":"user","content":"\\ud83d\\ude00' + b"a" * 59 * MB + b'"}'
    yield "60 MB request, one message with an emoji", Case(body=messages(emoji))
    yield "60 MB request, members", Case(body=b'{"model":"near",' + b'"a":1,' * (10 * MB) + b'"b":1}')
    far = messages(tiny, 31 * MB).replace(b'"near"', b'"far"')
    yield "31 MB request, tiny messages, translated", Case(tier="far", body=far)
    yield "MCP: 40 MB message", Case(tier="plain", prompt="huge")
    yield "MCP: 100 MB of output", Case(tier="noisy")
    yield "MCP: endless list of tools", Case(tier="pages")
    yield "MCP: never lists its tools", Case(tier="silent")
    yield "MCP: endless requests", Case(tier="pinging")


@contextlib.asynccontextmanager
async def hostile_server(answer: Answer) -> AsyncIterator[int]:
    """Run a server that answers every request with `answer`; yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int((re.search(rb"content-length: (\d+)", head) or [b"", b"0"])[1])
            while length:
                length -= len(await reader.read(min(length, MB)))
            writer.write(CHUNKED % (answer.status, answer.content_type))
            sent = 0
            for part in (answer.start, *[answer.part] * (answer.size // len(answer.part))):
                if part:
                    writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                    await writer.drain()
                sent += len(part)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def write_models_ini(directory: Path, upstream: int) -> int:
    """Write a models.ini with a tier of each kind; return the router's port."""
    port = free_port()
    (directory / ".llmstack").mkdir()
    base = f"base_url = http://127.0.0.1:{upstream}/v1\nctx_size = 99m\n"
    ports = "".join(f"{name}_port = {free_port()}\n" for name in ("swap", "litellm", "start"))
    tools = "".join(
        f"[{kind}]\nbackend = mcp\ncommand = {sys.executable} {MCP_MODEL} {kind}\ntool = complete\n"
        "ctx_size = 1m\n"
        for kind in ("plain", "noisy", "pages", "silent", "pinging")
    )
    (directory / ".llmstack" / "models.ini").write_text(
        f"[DEFAULT]\nrouter_port = {port}\n{ports}"
        f"[near]\nmodel = vllm/m\nrole = fast\n{base}"
        f"[far]\nmodel = anthropic/claude-opus-4-6\nbackend = server\n{base}{tools}"
    )
    return port


async def send(port: int, case: Case) -> str:
    """Send a case's request; return the status and the start of an error."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = case.request()
    writer.write(f"POST {case.path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n".encode())
    writer.write(b"connection: close\r\n\r\n")
    writer.write(body)
    try:
        async with asyncio.timeout(CASE_S):
            line = await reader.readline()
            end = b""
            while part := await reader.read(MB):
                end = (end + part)[-500:]
    except TimeoutError:
        return f"no end within {CASE_S:g} s"
    finally:
        writer.close()
    message = re.search(rb'"message": ?"(.{0,60})', end)
    return f"{line.split()[1].decode()} {message[1].decode(errors='replace') if message else ''}"


async def poll_health(port: int, times: list[float]) -> None:
    """Ask for /health every 10 ms until cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        start = time.perf_counter()
        writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
        times.append(time.perf_counter() - start)
        await asyncio.sleep(POLL_S)


def peak_memory_mb(pid: int) -> float:
    """Return the most memory that a process has had, in MB of 1024 KB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


async def measure(case: Case) -> tuple[str, float, float]:
    """Return the outcome of a case, the longest stall in seconds, and the router's peak memory in MB."""
    with tempfile.TemporaryDirectory() as name:
        async with hostile_server(case.answer) as upstream:
            port = write_models_ini(Path(name), upstream)
            argv = [sys.executable, "-m", "llmstack.router", "--work-dir", name]
            trust_project(Path(name))
            env = {**router_env(Path(name)), "ANTHROPIC_API_KEY": "key-of-nobody"}
            router = await asyncio.create_subprocess_exec(*argv, env=env, stdin=DEVNULL, stderr=DEVNULL)
            try:
                await asyncio.to_thread(wait_for, port)
                times: list[float] = []
                client = await asyncio.create_subprocess_exec(
                    *(sys.executable, __file__, "--poll", str(port)), stdout=asyncio.subprocess.PIPE
                )
                await client.stdout.readline()  # type: ignore[union-attr]
                outcome = await send(port, case)
                client.terminate()
                times = json.loads((await client.communicate())[0])
                return outcome, max(times), peak_memory_mb(router.pid)
            finally:
                router.terminate()
                await router.wait()


async def poll(port: int) -> None:
    """Poll until SIGTERM, in a process of its own; print the times."""
    times: list[float] = []
    task = asyncio.create_task(poll_health(port, times))
    asyncio.get_running_loop().add_signal_handler(15, task.cancel)
    print("polling", flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    print(json.dumps(times), flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains this")
    parser.add_argument("--poll", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.poll:
        asyncio.run(poll(options.poll))
        return
    failed = False
    print(f"{'':<42}{'stall ms':>10}{'MB':>8}  answer")
    for name, case in cases():
        if options.only in name:
            outcome, stall_s, memory_mb = asyncio.run(measure(case))
            failed = failed or stall_s > MAX_STALL_S or memory_mb > MAX_MEMORY_MB
            print(f"{name:<42}{1000 * stall_s:>10.0f}{memory_mb:>8.0f}  {outcome}", flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()

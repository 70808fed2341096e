"""How soon an idle tiny model answers: `python tests/benchmarks/first_token.py`.

The engine alone is timed from its exec to the first token, with requests sent until one succeeds; then the
same model as an idle tier of a router, from the request to the first token. They take turns, so that a
machine that becomes slower affects both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.forwarding import free_port, router_env, trust_project, wait_for

from llmstack.config import parse_bytes
from llmstack.llama_cpp.binary import find_engine
from llmstack.llama_cpp.command import server_env, server_flags
from llmstack.llama_cpp.tiny import write_echo
from llmstack.paths import Project, UserDirs

PATH = "/v1/chat/completions"


async def first_token(port: int, model: str, key: str, deadline_s: float = 30.0) -> float:
    """Return the time of the first token; requests are repeated until one succeeds."""
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]})
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
    data = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    deadline = time.perf_counter() + deadline_s
    while time.perf_counter() < deadline:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.003)
            continue
        try:
            writer.write(data)
            if (await reader.readline()).startswith(b"HTTP/1.1 200"):
                await reader.readuntil(b'"content":"')
                return time.perf_counter()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
        await asyncio.sleep(0.003)
    raise RuntimeError("no token arrived")


def time_engine(argv: tuple[str, ...], env: dict[str, str], port: int) -> float:
    """Return the seconds from the exec of an engine to its first token."""
    started = time.perf_counter()
    with subprocess.Popen(
        argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as engine:
        try:
            return asyncio.run(first_token(port, "tier", env["LLAMA_API_KEY"])) - started
        finally:
            engine.terminate()


def time_router(port: int, token_file: Path) -> float:
    """Return the seconds from a request for the idle tier to its first token."""
    started = time.perf_counter()
    seconds = asyncio.run(first_token(port, "tier", "")) - started
    asyncio.run(unload(port, token_file.read_text().strip()))
    return seconds


async def unload(port: int, token: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /llmstack/unload/tier HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    writer.write(f"{head}authorization: Bearer {token}\r\n\r\n".encode())
    response = await reader.read()
    writer.close()
    if not response.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(response.decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory, port, engine_port = Path(name), free_port(), free_port()
        write_echo(directory / "tier.gguf", speaker="tier")
        (directory / ".llmstack").mkdir()
        ini = directory / ".llmstack" / "models.ini"
        ini.write_text(
            f"[DEFAULT]\nrouter_port = {port}\nstart_port = {free_port()}\nswap_port = {free_port()}\n"
            f"litellm_port = {free_port()}\nswapper = builtin\n"
            f"[tier]\npath = {directory / 'tier.gguf'}\nctx_size = 4k\nrole = agent\n"
        )
        trust_project(directory)
        engine, tier = find_engine(os.environ), parse_bytes(ini.read_bytes(), ini).tiers["tier"]
        env = server_env(os.environ) | {"LLAMA_API_KEY": "key"}
        argv = engine.argv(
            (*server_flags(tier, directory / "tier.gguf"), "--host", "127.0.0.1", "--port", str(engine_port))
        )
        router = subprocess.Popen(
            [sys.executable, "-m", "llmstack.router", "--work-dir", name],
            env=router_env(directory),
            stdin=subprocess.DEVNULL,
        )
        user = UserDirs(*[directory / "state" / "llmstack"] * 5)
        token_file = user.private(Project.at(directory, {})).router_token
        try:
            wait_for(port)
            pairs = [
                (time_engine(argv, env, engine_port), time_router(port, token_file))
                for _ in range(options.rounds + 1)
            ][1:]
        finally:
            router.terminate()
            router.wait()
    for label, times in zip(("engine alone", "router"), zip(*pairs, strict=True), strict=True):
        print(
            f"{label:<14} median {statistics.median(times) * 1e3:.0f} ms, minimum {min(times) * 1e3:.0f} ms"
        )
    print(
        f"ratio {statistics.median(router_s / engine_s for engine_s, router_s in pairs):.2f}"
        " (median of the pairs)"
    )


if __name__ == "__main__":
    main()

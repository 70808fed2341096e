"""Conversations with the built-in swapper on real llama.cpp, whose models are noise: they can be wrong."""

from __future__ import annotations

import json
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.net import free_port

from llmstack.config import parse_bytes
from llmstack.paths import Project
from llmstack.serving.memory.survey import survey
from llmstack.serving.pool.backend import PoolBackend
from llmstack.upstream import client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from llmstack.config.model import StackConfig

INI = """
[DEFAULT]
start_port = {port}
swapper = builtin
memory_gb = 0.001          ; one at a time
kv_cache_gb = {kv_gb}
ctx_size = {ctx}
parallel = {parallel}
threads = {threads}
cache_ram_gb = 0
cache_type_k = {kv_type}
cache_type_v = {kv_type}

[a]
path = {models}/a.gguf
{extra}

[b]
path = {models}/b.gguf
"""


@dataclass(frozen=True)
class Turn:
    """What became of one request: the engine's own figures, and what the lease said."""

    answer: str
    prompt_n: int
    cache_n: int
    kv: str
    wall_s: float


@dataclass
class Talk:
    """One conversation."""

    session: str
    messages: list[dict[str, str]] = field(default_factory=list)

    async def turn(
        self,
        swapper: PoolBackend,
        text: str,
        *,
        tier: str = "a",
        stream: bool = False,
        tokens: int = 8,
        **extra: Any,
    ) -> Turn:
        """Say something and take the answer into the conversation."""
        self.messages.append({"role": "user", "content": text})
        began = time.monotonic()
        async with await swapper.acquire(tier, self.session) as lease:
            body = {"messages": self.messages, "max_tokens": tokens, "stream": stream, "temperature": 0}
            answer, timings = await ask(
                f"{lease.url}/v1/chat/completions",
                {**body, "id_slot": lease.slot, **extra},
                dict(lease.headers),
            )
            turn = Turn(answer, timings["prompt_n"], timings["cache_n"], lease.kv, time.monotonic() - began)
        self.messages.append({"role": "assistant", "content": answer})
        return turn


async def ask(url: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the answer of a chat completion and the engine's timings."""
    if not body["stream"]:
        whole = await post(url, body, headers)
        return whole["choices"][0]["message"]["content"], whole["timings"]
    status, data = await client.ask("POST", url, headers, json.dumps(body).encode())
    assert status == 200, data
    events = [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: {")]
    text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
    return text, next(e["timings"] for e in reversed(events) if "timings" in e)


async def post(url: str, body: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON that a model server answers to a request."""
    status, data = await client.ask("POST", url, headers, json.dumps(body).encode())
    assert status == 200, data
    answer: dict[str, Any] = json.loads(data)
    return answer


def configured(
    work_dir: Path,
    models: Path,
    *,
    kv_gb: float = 1,
    ctx: int = 16384,
    parallel: int = 2,
    threads: int = 1,
    kv_type: str = "f16",
    extra: str = "",
) -> StackConfig:
    """Write a models.ini for two models of which one fits, and read it."""
    ini = Project.at(work_dir, {}).models_ini
    ini.parent.mkdir(parents=True, exist_ok=True)
    ini.write_text(
        INI.format(
            port=free_port() % 60_000 + 1024,
            kv_gb=kv_gb,
            ctx=ctx,
            parallel=parallel,
            threads=threads,
            kv_type=kv_type,
            extra=extra,
            models=models,
        )
    )
    return parse_bytes(ini.read_bytes(), ini)


@asynccontextmanager
async def swapping(
    work_dir: Path, models: Path, kv_root: Path | None = None, **about: Any
) -> AsyncIterator[PoolBackend]:
    """Run the built-in swapper until the block ends."""
    config = configured(work_dir, models, **about)
    env = dict(os.environ)
    project = Project.at(work_dir, {})
    swapper = PoolBackend(
        project, config, survey(config, env), env, kv_root or work_dir / "kv", upstream=client.Upstream()
    )
    try:
        yield swapper
    finally:
        await swapper.close()

"""A tool loop on llama.cpp with tiny models: how many tokens the engine says it read."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from router.test_real_engine import is_up, send, spawn
from support.net import free_port
from support.trusting import trust
from support.waiting import wait_until

from llmstack.paths import Project, UserDirs

if TYPE_CHECKING:
    from pathlib import Path

MODELS_INI = """
[DEFAULT]
router_port = {port}
swap_port = {swap}
litellm_port = {litellm}
start_port = {first}
swapper = builtin
memory_gb = 1
cache_ram_gb = 0.02
ctx_size = 16k
threads = 1
[ROUTING]
high_fidelity_ceiling = 200
mid_fidelity_ceiling = 400
sticky = {sticky}
[fast]
role = fast
path = {models}/fast.gguf
[agent]
role = agent
path = {models}/agent.gguf
[ultra]
role = ultra
path = {models}/ultra.gguf
"""
TOOLS = [
    {"type": "function", "function": {"name": "read", "parameters": {"type": "object", "properties": {}}}}
]
CALL = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}


def conversation(turns: int, calls: int) -> list[dict[str, Any]]:
    """Return the request bodies of a conversation, with `calls` tool calls in each turn."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You help. " * 10}]
    bodies: list[dict[str, Any]] = []

    def add_body() -> None:
        bodies.append({"messages": list(messages), "tools": TOOLS, "max_tokens": 4, "temperature": 0})

    for turn in range(turns):
        messages.append({"role": "user", "content": f"turn {turn}: " + "do it " * 20})
        add_body()
        for call in range(calls):
            messages.append({"role": "assistant", "content": "", "tool_calls": [CALL]})
            messages.append(
                {"role": "tool", "tool_call_id": "c1", "content": f"{turn}.{call} " + "line " * 60}
            )
            add_body()
        messages.append({"role": "assistant", "content": "done"})
    return bodies


@dataclass
class ReadCounts:
    """What a conversation cost.

    Attributes:
        again: tokens that the engine read again, by its own count.
        switches: requests at another tier than the one before; `pending` those with a tool result pending.
    """

    again: int = 0
    switches: int = 0
    pending: int = 0


def count(replies: list[tuple[str, int, int, bool]]) -> ReadCounts:
    """Count over the requests: tier, cached tokens, read tokens, whether a tool result was pending."""
    (_, cached, read, _), (_, cached_next, _, _), *_ = replies
    tail = cached + read - cached_next  # the end of the prompt template is new every time
    total = ReadCounts()
    for (before, cached_before, read_before, _), (tier, cached, _, pending) in pairwise(replies):
        total.again += max(0, cached_before + read_before - tail - cached)
        total.switches += tier != before
        total.pending += tier != before and pending
    return total


def replay(work_dir: Path, sticky: str, bodies: list[dict[str, Any]]) -> ReadCounts:
    """Send a conversation through its own router."""
    from llmstack.llama_cpp.tiny import write_echo  # noqa: PLC0415 - needs the extra

    state = work_dir / ".llmstack"
    (state / "logs").mkdir(parents=True)
    for tier in ("fast", "agent", "ultra"):
        write_echo(work_dir / f"{tier}.gguf", speaker=tier)
    port = free_port()
    ports = {"port": port, "swap": free_port(), "litellm": free_port(), "first": free_port()}
    (state / "models.ini").write_text(MODELS_INI.format(**ports, models=work_dir, sticky=sticky))
    trust(Project.at(work_dir, {}), UserDirs.from_env({}).trusted_projects)
    process = spawn(work_dir)
    replies = []
    try:
        wait_until(lambda: is_up(port) or process.poll() is not None, timeout=20)
        for body in bodies:
            status, headers, response = send(port, "POST", "/v1/chat/completions", body)
            assert status == 200, response
            timings = json.loads(response)["timings"]
            pending = body["messages"][-1]["role"] == "tool"
            replies.append((headers["x-llmstack-tier"], timings["cache_n"], timings["prompt_n"], pending))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)
    return count(replies)


@pytest.mark.engine
def test_sticky_conversations_make_the_engine_read_fewer_tokens_again(tmp_path: Path) -> None:
    bodies = conversation(turns=5, calls=1)
    for name in ("plain", "sticky"):
        (tmp_path / name).mkdir()
    plain = replay(tmp_path / "plain", "off", bodies)
    sticky = replay(tmp_path / "sticky", "on", bodies)
    assert plain.pending > 0
    assert (sticky.switches, sticky.pending) == (0, 0)
    assert sticky.again < 0.5 * plain.again

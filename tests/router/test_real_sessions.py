"""A tool loop against llama.cpp with tiny models: what the engine itself says it had to read."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from router.test_real_engine import answers, ask, spawn
from support.net import free_port
from support.waiting import wait_until

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
    """Return the bodies of a conversation of so many turns, each with so many tool calls."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You help. " * 10}]
    bodies: list[dict[str, Any]] = []

    def send() -> None:
        bodies.append({"messages": list(messages), "tools": TOOLS, "max_tokens": 4, "temperature": 0})

    for turn in range(turns):
        messages.append({"role": "user", "content": f"turn {turn}: " + "do it " * 20})
        send()
        for call in range(calls):
            messages.append({"role": "assistant", "content": "", "tool_calls": [CALL]})
            messages.append(
                {"role": "tool", "tool_call_id": "c1", "content": f"{turn}.{call} " + "line " * 60}
            )
            send()
        messages.append({"role": "assistant", "content": "done"})
    return bodies


@dataclass
class Read:
    """What a conversation cost; `again` is tokens read again, in the engine's own count."""

    again: int = 0
    switches: int = 0
    pending: int = 0


def count(replies: list[tuple[str, int, int, bool]]) -> Read:
    """Count over tier, cached tokens, read tokens, and whether a tool result was pending, of each request."""
    (_, cached, read, _), (_, found, _, _), *_ = replies
    tail = cached + read - found  # what the template puts behind the conversation is new every time
    total = Read()
    for (before, had, more, _), (tier, cached, _, pending) in pairwise(replies):
        total.again += max(0, had + more - tail - cached)
        total.switches += tier != before
        total.pending += tier != before and pending
    return total


def replay(work_dir: Path, sticky: str, bodies: list[dict[str, Any]]) -> Read:
    """Send a conversation through a router of its own."""
    from llmstack.llama_cpp.tiny import write_echo  # noqa: PLC0415 - needs the extra

    state = work_dir / ".llmstack"
    (state / "logs").mkdir(parents=True)
    for tier in ("fast", "agent", "ultra"):
        write_echo(work_dir / f"{tier}.gguf", speaker=tier)
    port = free_port()
    ports = {"port": port, "swap": free_port(), "litellm": free_port(), "first": free_port()}
    (state / "models.ini").write_text(MODELS_INI.format(**ports, models=work_dir, sticky=sticky))
    process = spawn(work_dir)
    replies = []
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, timeout=20)
        for body in bodies:
            status, headers, answer = ask(port, "POST", "/v1/chat/completions", body)
            assert status == 200, answer
            timings = json.loads(answer)["timings"]
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

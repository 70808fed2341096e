"""Another user of the machine, who goes for the ports of llama-swap and of its model servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from serving.llama_swap.test_llama_swap_backend import KEY, process, swapper
from support.net import free_port
from support.stranger import needs_root, stranger_on
from support.waiting import wait_until_async

from llmstack.errors import LlmstackError
from llmstack.serving.errors import TierUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_root


async def test_whoever_takes_llama_swaps_port_first_does_not_get_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    # The port is taken right after it was found to be free.
    monkeypatch.setattr("llmstack.serving.llama_swap.process.require_free_port", lambda *_, **__: None)
    with stranger_on(port, tmp_path) as stranger:
        await wait_until_async(lambda: stranger.is_listening)
        swap = process(tmp_path, port)
        try:
            with pytest.raises(LlmstackError, match="llama-swap ended"):
                await swap.ensure_running()
        finally:
            await swap.close()
        assert stranger.received == b""


async def test_whoever_takes_the_port_when_llama_swap_has_ended_does_not_get_its_key(tmp_path: Path) -> None:
    port = free_port()
    swap = process(tmp_path, port)
    await swap.ensure_running()
    url, headers = swap.url, swap.headers
    assert headers == {"authorization": f"Bearer {KEY}"}
    with stranger_on(port, tmp_path) as stranger:
        await swap.close()
        await wait_until_async(lambda: stranger.is_listening)
        assert swap.url == url
        swap.is_closing = False
        assert await swap.request("GET", "/running") == (
            0,
            f"port {port} is not served by the process that was started for it",
        )
        assert stranger.received == b""


async def test_whoever_takes_a_model_servers_port_first_gets_no_prompt(tmp_path: Path) -> None:
    port = free_port()
    with stranger_on(port, tmp_path) as stranger:
        await wait_until_async(lambda: stranger.is_listening)
        async with swapper(tmp_path, preloaded=None, startPort=port) as swap:
            with pytest.raises(TierUnavailableError, match=r"taken by another process|did not start"):
                await swap.acquire("a")
        received = stranger.received
        assert KEY.encode() not in received
        assert set(received.split(b"\r\n")[:1]) <= {b"GET /hidden/health HTTP/1.1", b""}

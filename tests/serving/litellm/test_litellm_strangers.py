"""Another user of the machine, who goes for LiteLLM's port."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from support.net import free_port
from support.stranger import needs_root, stranger_on
from support.waiting import wait_until_async

from llmstack.errors import LlmstackError
from llmstack.serving.litellm.process import LitellmProcess
from llmstack.upstream.client import UpstreamError, ask

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_root
KEY = "sk-of-litellm"
_FAKE = """#!{python}
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.headers["authorization"] == "Bearer {key}" else 401)
        self.end_headers()

    def log_message(self, *_):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def litellm(tmp_path: Path, port: int) -> LitellmProcess:
    program = tmp_path / "litellm"
    program.write_text(_FAKE.format(python=sys.executable, key=KEY))
    program.chmod(0o755)
    return LitellmProcess(
        program,
        tmp_path / "litellm_config.yaml",
        port=port,
        env=os.environ,
        key=KEY,
        instance=f"test-{port}",
        pid_file=tmp_path / "litellm.pid",
        log=tmp_path / "litellm.log",
    )


async def test_whoever_takes_the_port_first_does_not_get_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The port is taken right after it was found to be free.
    monkeypatch.setattr("llmstack.serving.litellm.process.require_free_port", lambda *_, **__: None)
    port = free_port()
    with stranger_on(port, tmp_path) as stranger:
        await wait_until_async(lambda: stranger.is_listening)
        process = litellm(tmp_path, port)
        try:
            with pytest.raises(LlmstackError, match="LiteLLM ended"):
                await process.start()
        finally:
            await process.stop()
        assert stranger.received == b""


async def test_whoever_takes_the_port_after_its_end_gets_neither_key_nor_prompt(tmp_path: Path) -> None:
    port = free_port()
    process = litellm(tmp_path, port)
    assert process.public_url == f"http://127.0.0.1:{port}"
    await process.start()
    try:
        url = f"{process.url}/v1/chat/completions"
        assert (await ask("GET", url, process.headers))[0] == 200
        with stranger_on(port, tmp_path) as stranger:
            for server in psutil.Process(process.pid).children():
                server.kill()
            await wait_until_async(lambda: stranger.is_listening)
            with pytest.raises(UpstreamError, match=f"port {port} is not served by the process"):
                await ask("POST", url, process.headers, b"the secret prompt")
            assert stranger.received == b""
    finally:
        await process.stop()

"""A real llama.cpp behind `llamacpp/` and `vllm/`; our translation is compared with its own Messages API."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmstack import providers
from llmstack.llama_cpp.tiny import write_echo
from llmstack.providers.limits import ModelLimits
from llmstack.providers.translation import translate

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engine
SERVER = Path(__file__).parents[1] / "llama_cpp" / "tiny_server.py"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = tmp_path_factory.mktemp("model") / "echo.gguf"
    write_echo(model, speaker="echo")
    server = subprocess.Popen(
        [sys.executable, str(SERVER), str(model), "q8_0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.mark.parametrize("name", ["llamacpp/x", "vllm/x", "devstral_local"])
@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_the_address_may_end_with_v1(url: str, name: str, ending: str, tmp_path: Path) -> None:
    model = providers.model(name, env={"LOCAL_LLM_BASE_URL": f"{url}{ending}"}, config_dir=tmp_path)
    result = model.call("hello there", max_tokens=30, reasoning_effort="high")
    assert (result.output, result.stop_reason) == ("[echo] You said: hello there", "stop")
    assert result.tokens_used.input > 0
    pieces = model.stream("hello there", max_tokens=30)
    assert "".join(pieces) == result.output
    assert pieces.result is not None
    assert pieces.result.tokens_used == result.tokens_used


def test_the_translation_responds_like_the_servers_own_messages_api(url: str, tmp_path: Path) -> None:
    env = {"ANTHROPIC_BASE_URL": url}
    result = providers.model("anthropic_ollama/x", env=env, config_dir=tmp_path).call(
        "hello there", max_tokens=30
    )
    assert result.output == "[echo] You said: hello there"
    tools = [{"name": "look", "description": "Look.", "input_schema": {"type": "object", "properties": {}}}]
    turns: list[Any] = [{"role": "user", "content": "hello there"}]
    body = {"model": "x", "max_tokens": 30, "messages": turns, "system": "Be brief.", "tools": tools}
    for stream in (False, True):
        request = {**body, "stream": stream}
        native = httpx.post(f"{url}/v1/messages", json=request, timeout=30)
        translated = translate(
            json.dumps(request).encode(), "messages", "chat", model="x", limits=ModelLimits(), now=1
        )
        answer = httpx.post(f"{url}/v1/chat/completions", content=translated.body, timeout=30)
        if not stream:
            expected, actual = native.json(), json.loads(translated.translate_response(answer.content))
            assert actual["content"] == expected["content"]
            assert actual["stop_reason"] == expected["stop_reason"]
            assert actual["usage"]["output_tokens"] == expected["usage"]["output_tokens"]
            continue
        translation = translated.start_stream()
        kinds = _kinds(translation.feed(answer.content) + translation.close())
        assert kinds == _kinds(native.content)


def _kinds(data: bytes) -> list[str]:
    """Return the types of the events, repeated ones once."""
    kinds = [
        line.removeprefix("event: ") for line in data.decode().splitlines() if line.startswith("event: ")
    ]
    return [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]

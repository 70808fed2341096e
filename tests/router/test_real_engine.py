"""The router as the process that `start` starts, in front of llama.cpp with tiny models."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from anthropic import Anthropic
from anthropic import BadRequestError as AnthropicBadRequestError
from openai import APIError, BadRequestError, OpenAI
from support.net import free_port
from support.trusting import trust
from support.waiting import wait_until

from llmstack.paths import Project, UserDirs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODELS_INI = """
[DEFAULT]
router_port = {port}
swap_port = {swap}
litellm_port = {litellm}
start_port = {first}
memory_gb = 1
cache_ram_gb = 0.02
ctx_size = 4k
threads = 1
{more}
[ROUTING]
high_fidelity_ceiling = 500
mid_fidelity_ceiling = 1000
[code-fast]
role = fast
path = {models}/code-fast.gguf
[code-smart]
role = agent
aliases = agent
path = {models}/code-smart.gguf
[code-ultra]
role = ultra
path = {models}/not-there.gguf
"""


def write_stack(work_dir: Path, more: str = "") -> int:
    state = work_dir / ".llmstack"
    (state / "logs").mkdir(parents=True)
    port = free_port()
    text = MODELS_INI.format(
        port=port, swap=free_port(), litellm=free_port(), first=free_port(), models=work_dir, more=more
    )
    (state / "models.ini").write_text(text)
    trust(Project.at(work_dir, {}), UserDirs.from_env({}).trusted_projects)
    return port


def spawn(work_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "llmstack.router", "--work-dir", str(work_dir), *arguments]
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def send(port: int, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        return (
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
    finally:
        connection.close()


def is_up(port: int) -> bool:
    try:
        return send(port, "GET", "/health")[0] == 200
    except OSError:
        return False


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 200, **more}


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    from llmstack.llama_cpp.tiny import write_echo  # noqa: PLC0415 - needs the extra

    for tier in ("code-fast", "code-smart"):
        write_echo(tmp_path / f"{tier}.gguf", speaker=tier)
    port = write_stack(tmp_path)
    process = spawn(tmp_path)
    try:
        wait_until(lambda: is_up(port) or process.poll() is not None, timeout=20)
        assert process.poll() is None, process.communicate()
        yield port
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)
        assert not [child for child in children if child.is_running() and child.status() != "zombie"]


@pytest.mark.engine
def test_every_path_works_with_real_models(port: int) -> None:
    status, headers, body = send(port, "POST", "/v1/chat/completions", chat("hello", model="auto"))
    assert status == 200, body
    assert headers["x-llmstack-tier"] == "code-smart"
    assert headers["x-llmstack-reason"] == "short: 1 <= 500 tokens; code-ultra unavailable"
    assert "You said: hello" in json.loads(body)["choices"][0]["message"]["content"]

    status, headers, body = send(port, "POST", "/v1/chat/completions", chat("hi", model="code-fast"))
    assert (status, headers["x-llmstack-tier"]) == (200, "code-fast")

    status, _, body = send(port, "POST", "/v1/chat/completions", chat("x", model="code-ultra"))
    assert (status, json.loads(body)["error"]["code"]) == (503, "model_unavailable")

    # the engine refuses more than a slot holds
    status, headers, body = send(port, "POST", "/v1/chat/completions", chat("word " * 3000, model="agent"))
    assert status == 400
    assert "exceeds the available context size" in json.loads(body)["error"]["message"]
    assert headers["x-llmstack-tier"] == "code-smart"

    status, _, body = send(port, "GET", "/upstream/code-fast/props")
    assert status == 200
    assert "default_generation_settings" in json.loads(body)

    with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0) as client:
        for _ in range(3):  # the engine closes its connection after each stream
            stream = client.chat.completions.create(
                **chat("hello", model="auto", stream=True, stream_options={"include_usage": True})
            )
            chunks = list(stream)
            assert chunks[-1].usage is not None
            assert chunks[-1].usage.completion_tokens > 0
            reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
            assert reasons[-1] in {"stop", "length"}


@pytest.mark.engine
def test_every_api_works_with_its_own_client(port: int) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    expected, url = "You said: hello", f"http://127.0.0.1:{port}"
    with OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        assert expected in client.responses.create(model="auto", input="hello").output_text
        # Not `responses.stream`, which needs indices of the parts that llama.cpp leaves out.
        parts = list(client.responses.create(model="auto", input="hello", stream=True))
        assert expected in "".join(part.delta for part in parts if part.type == "response.output_text.delta")
        assert parts[-1].type == "response.completed"
        assert parts[-1].response.usage is not None
        assert client.completions.create(model="auto", prompt="x", max_tokens=9).choices[0].text
        with pytest.raises(BadRequestError) as raised:
            client.responses.create(model="auto", input="hello", max_output_tokens=10**6)
        assert raised.value.code == "context_length_exceeded"
    with Anthropic(base_url=url, api_key="x", max_retries=0) as claude:
        message = claude.messages.create(model="auto", max_tokens=200, messages=messages)
        assert expected in message.content[0].text  # type: ignore[union-attr]
        with claude.messages.stream(model="auto", max_tokens=200, messages=messages) as stream:
            assert expected in stream.get_final_text()
        assert claude.messages.count_tokens(model="auto", messages=messages).input_tokens > 0
        pattern = r"prompt is too long: \d+ tokens > \d+ maximum"
        for model, words in (("auto", 20_000), ("agent", 3000)):  # by the router, and by the engine
            long: Any = [{"role": "user", "content": "word " * words}]
            with pytest.raises(AnthropicBadRequestError, match=pattern):
                claude.messages.create(model=model, max_tokens=9, messages=long)
    status, headers, _ = send(port, "HEAD", "/")
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")


@pytest.mark.engine
def test_a_killed_engine_is_explained_and_started_again(port: int) -> None:
    request = chat("hello", model="agent")
    assert send(port, "POST", "/v1/chat/completions", request)[0] == 200
    states = json.loads(send(port, "GET", "/llmstack/status")[2])["tiers"]
    pid = next(tier["pid"] for tier in states if tier["name"] == "code-smart")
    psutil.Process(pid).kill()
    status, _, body = send(port, "POST", "/v1/chat/completions", request)
    if status != 200:  # else the router noticed it first
        assert (status, json.loads(body)["error"]["code"]) == (502, "engine_ended")
        assert send(port, "POST", "/v1/chat/completions", request)[0] == 200


@pytest.mark.engine
def test_sigterm_in_mid_stream_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    from llmstack.llama_cpp.tiny import write_random  # noqa: PLC0415 - needs the extra

    for tier in ("code-fast", "code-smart"):
        write_random(tmp_path / f"{tier}.gguf", dim=256, layers=12)
    port = write_stack(tmp_path)
    process = spawn(tmp_path)
    try:
        wait_until(lambda: is_up(port), timeout=20)
        with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0) as client:
            messages: Any = [{"role": "user", "content": "hello"}]
            more: Any = {"ignore_eos": True}
            stream = client.chat.completions.create(
                model="code-fast", messages=messages, stream=True, max_tokens=3500, extra_body=more
            )
            next(iter(stream))
            process.send_signal(signal.SIGTERM)
            with pytest.raises(APIError, match="the router is stopping"):
                for _ in stream:
                    pass
        process.wait(10)
    finally:
        process.kill()
        process.communicate()


def test_an_address_beyond_loopback_without_a_key_is_refused(tmp_path: Path) -> None:
    write_stack(tmp_path)
    process = spawn(tmp_path, "--host", "0.0.0.0")  # noqa: S104 - refused
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "host 0.0.0.0 is reachable from the network, and $LLMSTACK_API_KEY is not set" in errors
    assert "export LLMSTACK_API_KEY=" in errors


def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    port = write_stack(tmp_path)
    with socket.create_server(("127.0.0.1", port)):
        process = spawn(tmp_path)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in errors

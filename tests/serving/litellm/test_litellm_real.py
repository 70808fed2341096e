"""The real LiteLLM proxy behind a whole stack, which is started once for all tests."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import openai
import psutil
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from support.net import free_port
from support.project import CliProject
from support.waiting import wait_until
from support.yaml_text import dump_yaml, load_yaml

from llmstack.llama_cpp.tiny import write_echo

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = os.environ.get("LITELLM_BIN") or shutil.which("litellm")
PROVIDER_KEY = "sk-planted-4c1d9e77a0b3"
PROMPT = "the-planted-prompt-9f31"
READY_S = 90.0
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
MCP_MODEL = str(Path(__file__).parents[2] / "support" / "mcp_model.py")
MCP_SERVER = {"transport": "stdio", "command": sys.executable, "args": [MCP_MODEL, "plain"]}
pytestmark = [
    pytest.mark.litellm,
    pytest.mark.skipif(PROGRAM is None, reason="LiteLLM is not installed"),
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("litellm"),
]


@dataclass
class RecordingProvider:
    """A provider that records requests, and fails with the status in the model's name."""

    port: int
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def provider() -> Iterator[RecordingProvider]:
    recorder = RecordingProvider(0)

    class Provider(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            recorder.bodies.append(body)
            recorder.keys.append(self.headers["authorization"])
            failing = str(body["model"]).startswith("fail-")
            status = int(str(body["model"])[5:]) if failing else 200
            message = {"role": "assistant", "content": f"I am {body['model']}"}
            document: dict[str, Any] = {
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000},
            }
            if failing:
                document = {"error": {"message": f"planned {status}", "type": "x", "code": "planned"}}
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("retry-after", "7")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    recorder.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield recorder
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Yield the port of a llama.cpp server that is not part of the stack."""
    model = tmp_path_factory.mktemp("llama") / "echo.gguf"
    write_echo(model, speaker="far-away")
    tiny = Path(__file__).parents[2] / "llama_cpp" / "tiny_server.py"
    process = subprocess.Popen(
        [sys.executable, str(tiny), str(model), "f16"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, provider: RecordingProvider, llama: int
) -> Iterator[CliProject]:
    directory = tmp_path_factory.mktemp("hosted")
    home = {f"XDG_{name}_HOME": str(directory / name) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("LLMSTACK_", "XDG_"))
    }
    keys = {"OPENAI_API_KEY": PROVIDER_KEY, "MISTRAL_API_KEY": PROVIDER_KEY, "LITELLM_BIN": str(PROGRAM)}
    settings = {"HOME": str(directory), "LITELLM_ENABLE_MCP_STDIO": "true", **keys}
    project = CliProject(directory / "project", {**inherited, **home, **settings})
    # Users point their client at the router: LiteLLM must not take that address for its provider.
    project.env["OPENAI_BASE_URL"] = f"{project.url}/v1"
    base_url = f"base_url = http://127.0.0.1:{provider.port}/v1"
    sampler = "temp=0.3, top_p=0.9, top_k=20, min_p=0.05, rep_pen=1.05"
    failing = "".join(
        f"[fail-{status}]\nmodel = openai/fail-{status}\n{base_url}\n" for status in (401, 429, 500)
    )
    ini_sections = f"""
[code-ultra]
role = ultra
model = openai/gpt-4o
model_next = openai/gpt-next
sampler = {sampler}
{base_url}
[llama]
model = openai/echo
base_url = http://127.0.0.1:{llama}/v1
[priced]
model = openai/gpt-4o
base_url = http://127.0.0.1:{llama}/v1
{failing}
[keyless]
model = groq/x
"""
    project.install(tiers=("code-fast",), extra=ini_sections)
    with (project.state / "litellm_config.yaml").open("a") as file:
        file.write(dump_yaml({"mcp_servers": {"some": MCP_SERVER}}))
    project.run("trust", "--yes").check()
    project.start("--detach")
    try:
        wait_until(lambda: _has_process(project))  # its process runs; it answers much later
        yield project
    finally:
        project.close()


def proxy(stack: CliProject) -> dict[str, Any]:
    """Return the proxy's part of the router's status."""
    status: dict[str, Any] = httpx.get(f"{stack.url}/llmstack/status").json()["backends"]["litellm"]
    return status


def _has_process(stack: CliProject) -> bool:
    pid = proxy(stack)["pid"]
    return pid is not None and bool(psutil.Process(pid).children())


def wait_until_up(stack: CliProject) -> dict[str, Any]:
    """Wait until the proxy is up; return its part of the router's status."""
    status: dict[str, Any] = {}

    def ready() -> bool:
        status.update(proxy(stack))
        return bool(status["state"] == "up")

    wait_until(ready, timeout=READY_S)
    return status


def test_while_litellm_starts_other_tiers_serve_and_its_requests_wait(stack: CliProject) -> None:
    assert stack.is_answered("hello")
    body = {"model": "llama", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    with httpx.stream("POST", f"{stack.url}/v1/chat/completions", json=body, timeout=READY_S) as response:
        text = "".join(response.iter_text())
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    words = "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks if each["choices"])
    assert PROMPT in words
    assert text.rstrip().endswith("data: [DONE]")


def test_sampling_values_and_the_price_are_passed_on(stack: CliProject, provider: RecordingProvider) -> None:
    wait_until_up(stack)
    response = stack.ask("hi", "code-ultra", temperature=0.7)
    assert response.json()["choices"][0]["message"]["content"] == "I am gpt-4o"
    assert {key: value for key, value in provider.bodies[-1].items() if key not in {"model", "messages"}} == {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.05,
        "repetition_penalty": 1.05,
    }
    assert provider.keys[-1] == f"Bearer {PROVIDER_KEY}"
    assert 'llmstack_cost_usd_total{tier="code-ultra"} 0.0125' in httpx.get(f"{stack.url}/metrics").text


def test_tools_reach_the_provider_unchanged(stack: CliProject, provider: RecordingProvider) -> None:
    wait_until_up(stack)
    assert stack.ask("hi", "code-ultra", tools=[TOOL]).is_success
    assert provider.bodies[-1]["tools"] == [TOOL]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_calls_tools_and_gets_their_results(stack: CliProject, *, streamed: bool) -> None:
    wait_until_up(stack)
    messages: list[Any] = [{"role": "user", "content": "call get_weather for Paris"}]
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="x", max_retries=0) as client:
        body: Any = {"model": "llama", "messages": messages, "tools": [TOOL]}
        if streamed:
            with client.chat.completions.stream(**body) as stream:
                choice = stream.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**body).choices[0]
        assert choice.finish_reason == "tool_calls"
        calls: Any = choice.message.tool_calls
        assert [call.function.name for call in calls] == ["get_weather"]
        assert "Paris" in json.loads(calls[0].function.arguments)["city"]
        result = {"role": "tool", "tool_call_id": calls[0].id, "content": "sun"}
        messages += [choice.message.to_dict(), result]
        reply = client.chat.completions.create(model="llama", messages=messages, tools=body["tools"])
        assert reply.choices[0].message.content == "[far-away] The tool said: sun"


def test_the_price_of_a_stream_is_counted(stack: CliProject) -> None:
    wait_until_up(stack)
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="x", max_retries=0) as client:
        body: Any = {"model": "priced", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        chunks = list(client.chat.completions.create(**body, stream_options={"include_usage": True}))
    usage = chunks[-1].usage
    assert usage is not None
    assert (
        f'llmstack_cost_usd_total{{tier="priced"}} {usage.to_dict()["cost"]}'
        in httpx.get(f"{stack.url}/metrics").text
    )


async def test_the_mcp_gateway_and_the_web_page_of_status_work(stack: CliProject) -> None:
    status, key = wait_until_up(stack), stack.private.litellm_key.read_text().strip()
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=30) as keyed,
        Client(streamable_http_client(status["mcp"], http_client=keyed), mode="legacy") as client,
    ):
        text = "not found"
        async with asyncio.timeout(30):
            while text.endswith("not found"):  # the proxy lists a server's tools only after it is up
                response = await client.call_tool("some-complete", {"question": "hello"})
                text = str(getattr(response.content[0], "text", ""))
    assert text.endswith("|hello")
    async with httpx.AsyncClient(follow_redirects=True) as http:
        assert (await http.get(status["ui"])).is_success
        login = {"username": "admin", "password": key}
        refused = await http.post(f"http://127.0.0.1:{status['port']}/login", data=login)
    assert "Not connected to DB" in refused.text, "the README and `status` say that it wants a database"


@pytest.mark.parametrize("status", [401, 429, 500])
def test_errors_of_the_provider_are_passed_on(stack: CliProject, status: int) -> None:
    wait_until_up(stack)
    response = stack.ask("hi", f"fail-{status}")
    assert response.status_code == status
    assert f"planned {status}" in response.json()["error"]["message"]
    last = httpx.get(f"{stack.url}/llmstack/status").json()["recent"][-1]
    assert last["outcome"] == f"upstream_{status}"


def test_models_and_status_describe_the_tiers(stack: CliProject) -> None:
    pid = wait_until_up(stack)["pid"]
    models = {each["id"]: each for each in httpx.get(f"{stack.url}/v1/models").json()["data"]}
    ultra = models["code-ultra"]
    assert (ultra["model"], ultra["channel"], ultra["backend"]) == ("openai/gpt-4o", "current", "litellm")
    assert "state" not in ultra
    shown = stack.run("status").out
    assert f"pid {pid}" in shown
    assert "/ui  " in shown
    assert f"both require its key, and /ui a database: cat {stack.private.litellm_key}" in shown
    tiers = {tier["name"]: tier for tier in stack.status()["tiers"]}
    assert tiers["code-ultra"]["state"] == "remote"
    why = "$GROQ_API_KEY is not set, which groq requires (export GROQ_API_KEY=… and `llmstack restart`)"
    assert (tiers["keyless"]["state"], tiers["keyless"]["detail"]) == ("down", why)
    assert why in stack.ask("hi", "keyless").json()["error"]["message"]
    swap = load_yaml(stack.private.llama_swap_yaml.read_text())
    assert swap["peers"]["litellm"]["models"] == [
        "code-ultra",
        "llama",
        "priced",
        "fail-401",
        "fail-429",
        "fail-500",
    ]


def test_no_key_and_no_prompt_is_written_to_files_or_command_lines(stack: CliProject) -> None:
    wait_until_up(stack)
    key = stack.private.litellm_key.read_text().strip()
    assert stack.private.litellm_key.stat().st_mode & 0o777 == 0o600
    files = [*stack.state.rglob("*"), *stack.private.directory.rglob("*")]
    texts = {path: path.read_text(errors="replace") for path in files if path.is_file()}
    assert not [path for path, text in texts.items() if PROVIDER_KEY in text or PROMPT in text]
    assert not [path for path, text in texts.items() if key in text and path.is_relative_to(stack.state)]
    holding = sorted(path.name for path, text in texts.items() if key in text)
    assert holding == ["litellm.key", "llama-swap.yaml"]
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if key in line or PROVIDER_KEY in line]


def test_on_next_the_other_model_serves_and_a_killed_router_leaves_no_process(stack: CliProject) -> None:
    stack.run("restart", "--next", "--detach").check()
    proxy = wait_until_up(stack)["pid"]
    assert "I am gpt-next" in stack.answer("hi", "code-ultra")
    family = [psutil.Process(proxy), *psutil.Process(proxy).children(recursive=True)]
    psutil.Process(stack.pid()).kill()
    wait_until(lambda: not any(member.is_running() for member in family), timeout=10)


def test_a_taken_port_is_an_error_that_names_its_process(stack: CliProject) -> None:
    taken = free_port()
    ini = stack.state / "models.ini"
    old = next(line for line in ini.read_text().splitlines() if line.startswith("litellm_port"))
    server = ThreadingHTTPServer(("127.0.0.1", taken), BaseHTTPRequestHandler)
    try:
        ini.write_text(ini.read_text().replace(old, f"litellm_port = {taken}"))
        stack.start("--detach")
        wait_until(lambda: proxy(stack)["state"] == "failed")
        response = stack.ask("hi", "code-ultra")
        assert response.status_code == 503
        message = response.json()["error"]["message"]
        assert f"port {taken} for LiteLLM is taken by " in message
        assert f"(pid {os.getpid()})" in message
        assert "set another `litellm_port` in models.ini" in message
    finally:
        server.server_close()
        stack.run("stop").check()

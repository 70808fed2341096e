"""Ollama through the router and through Ollama's own client: both give the same results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ollama
import openai
import pytest
from ollama._client import _parse_host
from router.harness import run_in_thread
from router.remote_tiers import router_with_tiers
from support.providers import provider

from llmstack import providers
from llmstack.config.model import BackendKind, HostedModel, Tier
from llmstack.providers.errors import UnknownModelError
from llmstack.providers.model_aliases import load_bundled_aliases
from llmstack.providers.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openai.types.chat import ChatCompletion
    from support.providers import FakeProvider

HOSTS = [
    *("1.2.3.4", ":56789", "1.2.3.4:56789", "http://1.2.3.4", "https://1.2.3.4", "https://1.2.3.4:56789"),
    *("example.com", "example.com:56789", "http://example.com", "https://example.com", "example.com/"),
    *("example.com:56789/", "example.com/path", "example.com:56789/path/", "https://example.com/a/b"),
    *("[0001:002:003:0004::1]", "[0001:002:003:0004::1]:56789", "http://[0001:002:003:0004::1]"),
    *("https://[::1]:56789/path", "[::1]/path", "[fe80::1%25eth0]:1"),
    *("0.0.0.0", "0.0.0.0:8080", "http://0.0.0.0", "localhost", "HTTP-host:1", "host:0", "http://host/"),  # noqa: S104
    *("user:secret@host:1", "host:1?query=1", "host#fragment", "host/v", "http://"),
]
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "description": "Do.", "parameters": {"type": "object", "properties": {}}},
    }
    for name in ("get_weather", "ping")
]


def address(host: str, name: str = "ollama/x") -> str:
    return resolve(name, {"OLLAMA_HOST": host}, load_bundled_aliases()).root


@pytest.mark.parametrize("host", ["", *HOSTS])
@pytest.mark.parametrize("name", ["ollama/x", "anthropic_ollama/x"])
def test_ollama_host_is_read_like_ollamas_client_reads_it(host: str, name: str) -> None:
    expected = _parse_host(host)
    if not host:
        expected = expected.replace("127.0.0.1", "localhost")  # the spelling if nothing is set
    assert address(host, name) == f"{expected}/v1"


@pytest.mark.parametrize("host", ["host:port", "host:99999", "ftp://host", "[::1", "unix:///run/x"])
def test_an_invalid_ollama_host_is_an_error_that_does_not_show_it(host: str) -> None:
    with pytest.raises(UnknownModelError, match=r"^OLLAMA_HOST: expected a host such as") as raised:
        address(host)
    assert host not in str(raised.value)


def test_every_other_variable_takes_precedence_over_ollama_host() -> None:
    host = {"OLLAMA_HOST": "h:1"}
    everywhere = {**host, "LOCAL_LLM_BASE_URL": "http://l:2"}
    for env, root, source in (
        (everywhere, "http://l:2/v1", "LOCAL_LLM_BASE_URL"),
        ({**everywhere, "OLLAMA_BASE_URL": "http://o:3"}, "http://o:3/v1", "OLLAMA_BASE_URL"),
        (host, "http://h:1/v1", "OLLAMA_HOST"),
    ):
        endpoint = resolve("ollama/x", env, load_bundled_aliases())
        assert (endpoint.root, endpoint.address_source) == (root, source)
    assert resolve("vllm/x", host, load_bundled_aliases()).address_source == "the default"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeProvider]:
    with provider("ollama") as fake:
        yield fake


@pytest.fixture(scope="module")
def ollama_client(server: FakeProvider) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as client:
        yield client


@pytest.fixture(scope="module")
def router_client(server: FakeProvider) -> Iterator[openai.OpenAI]:
    """Yield a client of a router whose tiers are served by Ollama, which it finds by OLLAMA_HOST."""
    tiers = [Tier(name, BackendKind.SERVER, HostedModel("ollama", name), 64_000) for name in ("x", "gone")]
    env = {"OLLAMA_HOST": server.url.removeprefix("http://")}
    with (
        run_in_thread(lambda: router_with_tiers(*tiers, env=env)) as running,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0) as client,
    ):
        yield client


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("words", ["hello", "long \u00e4", "think", "the weather in Paris and Rome?", "ping"])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_router_and_ollamas_client_return_the_same_answer(
    words: str, ollama_client: ollama.Client, router_client: openai.OpenAI, *, streamed: bool
) -> None:
    body: Any = {"model": "x", "messages": user(words), "tools": TOOLS}
    native = _merge(
        list(ollama_client.chat(**body, stream=True)) if streamed else [ollama_client.chat(**body)]
    )
    if streamed:
        with router_client.chat.completions.stream(**body, stream_options={"include_usage": True}) as stream:
            stream.until_done()
            completion: ChatCompletion = stream.current_completion_snapshot
    else:
        completion = router_client.chat.completions.create(**body)
    choice, usage = completion.choices[0], completion.usage
    assert usage is not None
    message = choice.message.to_dict()
    calls: Any = message.get("tool_calls") or []
    assert native == {
        "text": message.get("content") or "",
        "thinking": message.get("reasoning") or "",
        "calls": [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls],
        "reason": "stop" if choice.finish_reason == "tool_calls" else choice.finish_reason,
        "tokens": (usage.prompt_tokens, usage.completion_tokens),
    }


def _merge(pieces: list[ollama.ChatResponse]) -> dict[str, Any]:
    messages = [piece.message for piece in pieces]
    calls = [call.function for message in messages for call in message.tool_calls or ()]
    return {
        "text": "".join(message.content or "" for message in messages),
        "thinking": "".join(message.thinking or "" for message in messages),
        "calls": [(call.name, call.arguments) for call in calls],
        "reason": pieces[-1].done_reason,
        "tokens": (pieces[-1].prompt_eval_count, pieces[-1].eval_count),
    }


@pytest.mark.parametrize("streamed", [False, True])
def test_a_missing_model_is_the_same_error_everywhere(
    ollama_client: ollama.Client,
    router_client: openai.OpenAI,
    server: FakeProvider,
    tmp_path: Path,
    *,
    streamed: bool,
) -> None:
    body: Any = {"model": "gone", "messages": user("hi"), "stream": streamed}
    with pytest.raises(ollama.ResponseError) as native:
        list(ollama_client.chat(**body))
    with pytest.raises(openai.NotFoundError) as routed:
        router_client.chat.completions.create(**body)
    model = providers.model("ollama/gone", env={"OLLAMA_HOST": server.url}, config_dir=tmp_path)
    with pytest.raises(providers.RejectedError) as called:
        list(model.stream("hi")) if streamed else model.call("hi")
    assert (native.value.status_code, native.value.error) == (404, "model 'gone' not found")
    assert isinstance(routed.value.body, dict)
    assert routed.value.body["message"] == native.value.error
    assert called.value.message == f"ollama/gone answered 404: {native.value.error}"
    assert called.value.hint == f"is there a model `gone` at {server.url}/v1?"


def test_a_stream_that_breaks_is_the_same_error_everywhere(
    ollama_client: ollama.Client, router_client: openai.OpenAI
) -> None:
    body: Any = {"model": "x", "messages": user("please break"), "stream": True}
    with pytest.raises(ollama.ResponseError, match="Overloaded"):
        list(ollama_client.chat(**body))
    with pytest.raises(openai.APIError, match="Overloaded"):
        list(router_client.chat.completions.create(**body))

"""`llmstack.providers.model(…)`, called in every way, against fakes that are as strict as real providers."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support.net import free_port, listener
from support.providers import KEY, provider

from llmstack import providers
from llmstack.providers.retries import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.providers import FakeProvider

    from llmstack.providers.model_api import Model

FAST_RETRIES = RetryPolicy(2, first_wait_s=0.001)


@contextmanager
def model_at(
    kind: str, name: str, config_dir: Path, *, strict: bool = False, **env: str
) -> Iterator[tuple[Model, FakeProvider]]:
    """Yield a model, and the fake provider that serves it."""
    with provider(kind) as fake:
        variables = {f"{kind.upper()}_API_KEY": KEY, f"{kind.upper()}_BASE_URL": fake.url, **env}
        if kind == "local":
            variables = {"LOCAL_LLM_BASE_URL": f"{fake.url}/v1", **env}
        model = providers.model(
            name, env=variables, config_dir=config_dir, retries=FAST_RETRIES, strict=strict, timeout_s=10
        )
        yield model, fake


PROVIDER_MODELS = [
    ("anthropic", "anthropic/haiku", "claude-haiku-4-5-20251001"),
    ("openai", "openai/gpt-5.2", "gpt-5.2"),
    ("google", "google_ai_studio", "gemini-flash-latest"),
    ("mistral", "mistral/small", "mistral-medium-latest"),
    ("local", "ollama/llama3.1:8b", "llama3.1:8b"),
    ("local", "vllm/meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
    ("local", "lm_studio/google/gemma-3-4b", "google/gemma-3-4b"),
    ("local", "llamacpp/any", "any"),
    ("local", "devstral_local", "devstral"),
]


@pytest.mark.parametrize(("kind", "name", "full_name"), PROVIDER_MODELS)
def test_every_provider_can_be_called_in_every_way(
    kind: str, name: str, full_name: str, tmp_path: Path
) -> None:
    with model_at(kind, name, tmp_path) as (model, fake):
        result = model.call("hello", max_tokens=50, temperature=0.5, system="Be brief.")
        assert result == providers.Result(
            "You said: hello.", full_name, name.partition("/")[0], providers.TokensUsed(30, 7), "stop"
        )
        assert asyncio.run(model.acall("hello")) == result
        pieces = model.stream("hello")
        assert list(pieces) == ["You said: ", "hello", "."]
        assert pieces.result == result

        async def collect() -> tuple[list[str], Any]:
            pieces = model.astream("hello")
            return [piece async for piece in pieces], pieces.result

        assert asyncio.run(collect()) == (["You said: ", "hello", "."], result)
        assert fake.requests[0].get("max_tokens", fake.requests[0].get("max_completion_tokens")) == 50
        assert "temperature" not in fake.requests[1]
        assert fake.requests[1].get("max_tokens", fake.requests[1].get("max_completion_tokens")) == 4096


def test_anthropic_api_of_ollama_is_called_with_the_token(tmp_path: Path) -> None:
    with provider("anthropic") as fake:
        env = {"ANTHROPIC_BASE_URL": fake.url, "ANTHROPIC_AUTH_TOKEN": KEY}
        result = providers.model("anthropic_ollama", env=env, config_dir=tmp_path).call("hello")
        assert (result.output, result.model) == ("You said: hello.", "minimax-m2.5:cloud")
        assert fake.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_synchronous_call_works_inside_an_event_loop(tmp_path: Path) -> None:
    async def call_inside(model: Model) -> str:
        return model.call("hello").output

    with model_at("local", "ollama/x", tmp_path) as (model, _):
        assert asyncio.run(call_inside(model)) == "You said: hello."


def test_the_prompt_can_be_a_conversation(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    with model_at("anthropic", "anthropic/opus", tmp_path) as (model, fake):
        assert model.call(messages, system="S").output == "You said: c."
        assert [turn["role"] for turn in fake.last["messages"]] == ["user", "assistant", "user"]


def test_an_unsupported_parameter_is_dropped_or_an_error_in_strict_mode(tmp_path: Path) -> None:
    with model_at("local", "ollama/x", tmp_path) as (model, _):
        assert model.call("hello", reasoning_effort="high").output == "You said: hello."
    with (
        model_at("local", "ollama/x", tmp_path, strict=True) as (model, fake),
        pytest.raises(providers.UnsupportedParameterError, match="ollama/x does not take reasoning_effort"),
    ):
        model.call("hello", reasoning_effort="high")
    with (
        model_at("anthropic", "anthropic/opus", tmp_path, strict=True) as (model, fake),
        pytest.raises(providers.UnsupportedParameterError, match="does not take temperature"),
    ):
        model.call("hello", temperature=0.1)
    assert fake.requests == []
    with model_at("anthropic", "anthropic/opus", tmp_path, strict=True) as (model, fake):
        model.call("hello", reasoning_effort="low")
        assert fake.last["output_config"] == {"effort": "low"}


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_transient_failure_is_retried(kind: str, *, streamed: bool, tmp_path: Path) -> None:
    name = {"anthropic": "anthropic/haiku", "openai": "openai/gpt-4o"}[kind]
    with model_at(kind, name, tmp_path) as (model, fake):
        fake.failures = [(529, ""), (429, "0.001")]
        output = "".join(model.stream("hello")) if streamed else model.call("hello").output
        assert output == "You said: hello."
        assert len(fake.requests) == 3


@pytest.mark.parametrize(
    ("words", "error", "status", "tries"),
    [
        ("error 400", providers.RejectedError, 400, 1),
        ("error 401", providers.RejectedError, 401, 1),
        ("error 404", providers.RejectedError, 404, 1),
        ("error 500", providers.MalformedResponseError, 500, 3),
        ("error 501", providers.MalformedResponseError, 501, 1),
    ],
)
def test_a_lasting_failure_raises_its_error(
    words: str, error: type[Any], status: int, tries: int, tmp_path: Path
) -> None:
    with model_at("openai", "openai/gpt-4o", tmp_path) as (model, fake):
        with pytest.raises(error) as raised:
            model.call(words)
        assert (raised.value.status, raised.value.provider, len(fake.requests)) == (status, "openai", tries)
        assert KEY not in f"{raised.value!r} {raised.value} {raised.value.hint}"


def test_a_rate_limit_error_has_the_seconds_to_wait(tmp_path: Path) -> None:
    with model_at("mistral", "mistral/small", tmp_path) as (model, fake):
        with pytest.raises(providers.RateLimitedError) as raised:
            model.call("error 429 after 3600")
        assert (raised.value.retry_after, len(fake.requests)) == (3600.0, 1)
        with pytest.raises(providers.RateLimitedError) as raised:
            model.call("error 429")
        assert (raised.value.retry_after, len(fake.requests)) == (None, 4)


@pytest.mark.parametrize(("words", "message"), [("break", "Overloaded"), ("cut", "ended in the middle")])
@pytest.mark.parametrize("name", ["anthropic/haiku", "openai/gpt-4o"])
def test_a_broken_stream_raises_after_the_pieces_that_arrived(
    name: str, words: str, message: str, tmp_path: Path
) -> None:
    with model_at(name.partition("/")[0], name, tmp_path) as (model, fake):
        pieces: list[str] = []
        with pytest.raises(providers.MalformedResponseError, match=message):
            pieces.extend(model.stream(words))
        assert pieces == ["You said: ", words, "."]
        assert len(fake.requests) == 1


def test_an_unreachable_local_server_is_reported_with_its_variable(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    model = providers.model("ollama/x", env={"LOCAL_LLM_BASE_URL": url}, config_dir=tmp_path)
    with pytest.raises(providers.ProviderUnreachableError) as raised:
        model.call("hello")
    assert raised.value.message == f"nothing answers at {url}/v1 (from LOCAL_LLM_BASE_URL)"
    assert raised.value.hint == "start Ollama there, or set LOCAL_LLM_BASE_URL to where it is"


def test_a_server_that_never_answers_times_out(tmp_path: Path) -> None:
    with listener() as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        model = providers.model("vllm/x", base_url=url, timeout_s=0.2, env={}, config_dir=tmp_path)
        with pytest.raises(providers.TimedOutError, match=r"vllm/x did not answer within 0.2 s"):
            model.call("hello")
        with pytest.raises(providers.TimedOutError):
            list(model.stream("hello"))


def test_a_broken_connection_is_retried(tmp_path: Path) -> None:
    requests: list[bytes] = []
    with listener() as server:

        def hang_up() -> None:
            while len(requests) < 3:
                connection, _ = server.accept()
                requests.append(connection.recv(10))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        model = providers.model("vllm/x", base_url=url, env={}, config_dir=tmp_path, retries=FAST_RETRIES)
        with pytest.raises(providers.MalformedResponseError, match=r"the connection to .* broke"):
            model.call("hello")
        thread.join()
    assert len(requests) == 3


def test_waits_double_with_jitter() -> None:
    error = providers.MalformedResponseError("x")
    for jitter, waits in ((0.0, [0.25, 0.5, 1.0, 1.5]), (1.0, [0.5, 1.0, 2.0, 3.0])):
        policy = RetryPolicy(4, first_wait_s=0.5, max_wait_s=3.0, jitter=partial(float, jitter))
        assert [policy.next_wait_s(error, retries) for retries in range(4)] == waits
        assert policy.next_wait_s(error, 4) is None
        assert policy.next_wait_s(providers.RejectedError("x"), 0) is None


def test_leaving_a_stream_early_ends_the_request(tmp_path: Path) -> None:
    with model_at("openai", "openai/gpt-4o", tmp_path) as (model, _):
        for piece in model.stream("hello"):
            assert piece == "You said: "
            break
        assert model.call("hello").output == "You said: hello."

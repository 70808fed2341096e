"""Tiers that other servers serve: the user's own server, a provider's API, a tool of an MCP server."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import openai
import pytest
from router.clients import chat, chat_request, event, request
from router.harness import RunningRouter, run_in_thread, scripted_server
from router.remote_tiers import router_with_tiers, server_tier
from support.providers import KEY, provider

from llmstack.config.model import BackendKind, HostedModel, McpModel, Role, Sampler, Tier
from llmstack.router.admin.status_json import status
from llmstack.serving.errors import TierUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.harness import IncomingRequest
    from support.providers import FakeProvider


@pytest.fixture(scope="module")
def claude() -> Iterator[FakeProvider]:
    with provider("anthropic") as fake:
        yield fake


@pytest.fixture(scope="module")
def local() -> Iterator[FakeProvider]:
    with provider("local") as fake:
        yield fake


@pytest.fixture(scope="module")
def mistral() -> Iterator[FakeProvider]:
    with provider("mistral") as fake:
        yield fake


@pytest.fixture(scope="module")
def running(claude: FakeProvider, local: FakeProvider, mistral: FakeProvider) -> Iterator[RunningRouter]:
    tiers = (
        server_tier("far", "anthropic/claude-haiku-4-5-20251001", claude.url, Role.ULTRA),
        server_tier("near", "vllm/some-model", local.url, Role.FAST),
        server_tier("other", "mistral/mistral-small-latest", mistral.url),
    )
    with run_in_thread(lambda: router_with_tiers(*tiers)) as value:
        yield value


@pytest.fixture
def openai_client(running: RunningRouter) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(running: RunningRouter) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.url, api_key="x", max_retries=0) as client:
        yield client


MCP_MODEL = Path(__file__).parents[1] / "support" / "mcp_model.py"
CHAT = "/v1/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("tier", ["far", "near", "other", "auto"])
def test_openai_chat_works_with_every_provider(openai_client: openai.OpenAI, tier: str) -> None:
    response = openai_client.chat.completions.create(model=tier, messages=HELLO)
    assert response.choices[0].message.content
    assert response.choices[0].finish_reason == "stop"
    assert response.usage is not None
    assert response.usage.prompt_tokens > 0
    chunks = list(openai_client.chat.completions.create(model=tier, messages=HELLO, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == response.choices[0].message.content


@pytest.mark.parametrize("tier", ["far", "other"])
def test_anthropic_messages_work_with_every_provider(
    anthropic_client: anthropic.Anthropic, tier: str
) -> None:
    response = anthropic_client.messages.create(model=tier, messages=HELLO, max_tokens=50)
    assert response.stop_reason == "end_turn"
    with anthropic_client.messages.stream(model=tier, messages=HELLO, max_tokens=50) as stream:
        assert stream.get_final_text() == response.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("tier", ["far", "other"])
def test_openai_responses_work_with_every_provider(openai_client: openai.OpenAI, tier: str) -> None:
    assert openai_client.responses.create(model=tier, input="hello").output_text


def test_a_provider_gets_requests_in_its_own_api_with_its_own_key(
    openai_client: openai.OpenAI, claude: FakeProvider, local: FakeProvider
) -> None:
    openai_client.chat.completions.create(model="far", messages=HELLO, max_tokens=50)
    assert claude.last["model"] == "claude-haiku-4-5-20251001"
    assert claude.headers[-1]["x-api-key"] == KEY
    assert "authorization" not in claude.headers[-1]
    openai_client.chat.completions.create(model="near", messages=HELLO, reasoning_effort="high")
    assert local.last == {"messages": HELLO, "model": "some-model"}, "no reasoning effort for local servers"


@pytest.mark.parametrize("status", [401, 429, 500])
@pytest.mark.parametrize("stream", [False, True])
def test_a_providers_error_keeps_its_status_and_is_translated(
    openai_client: openai.OpenAI, claude: FakeProvider, running: RunningRouter, status: int, *, stream: bool
) -> None:
    running.app.service.cooldowns.note_success("far")
    claude.failures = [(status, "7")]
    with pytest.raises(openai.APIStatusError) as raised:
        list(openai_client.chat.completions.create(model="far", messages=HELLO, stream=stream))
    assert raised.value.status_code == status
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["message"] == "try later"
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("cut", [0, 60])
@pytest.mark.parametrize(
    ("path", "tokens"), [(CHAT, 0), (CHAT, 1), (CHAT, 2), ("/v1/messages", 1), ("/v1/other", 2)]
)
async def test_an_error_in_a_stream_reveals_no_key(path: str, tokens: int, cut: int) -> None:
    error = {"error": {"message": f"the key {KEY} has no credit left"}}
    error_event = f"data: {json.dumps(error)}\n\n".encode()

    async def fails(request: IncomingRequest) -> None:
        await request.start_stream()
        for _ in range(tokens):
            await request.chunk(event("a"))
        for part in filter(None, (error_event[:cut], error_event[cut:])):
            await asyncio.sleep(0.001)  # so that the router reads each on its own
            await request.chunk(part)
        await asyncio.sleep(0.001)
        await request.end_stream()

    async with (
        scripted_server(fails) as server,
        router_with_tiers(server_tier("other", "mistral/mistral-small-latest", server.url)) as running,
    ):
        reply = await request(running, "POST", path, chat_request(model="other", stream=True, max_tokens=50))
        assert KEY.encode() not in reply.body
        assert (
            "the key … has no credit left" in reply.body.decode()
            or "the key \\u2026 has" in reply.body.decode()
        )


ALL = {"temperature": 0.2, "top_p": 0.9, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05}


@pytest.fixture(scope="module")
def router_with_sampling(
    claude: FakeProvider, local: FakeProvider, mistral: FakeProvider
) -> Iterator[tuple[str, dict[str, FakeProvider]]]:
    """Yield the address of a router whose tiers have sampler values, and the provider of each tier."""
    models = {
        "opus": (claude, HostedModel("anthropic", "claude-opus-4-6")),
        "sonnet": (claude, HostedModel("anthropic", "claude-sonnet-4-6")),
        "mistral": (mistral, HostedModel("mistral", "mistral-small-latest")),
        "ollama": (local, HostedModel("ollama", "x")),
    }
    addresses = {f"{model.provider.upper()}_BASE_URL": far.url for far, model in models.values()}
    sampler = Sampler(temp=0.2, top_p=0.9, top_k=20, min_p=0.05, rep_pen=1.05)
    tiers = [
        Tier(name, BackendKind.SERVER, model, 64_000, sampler=sampler) for name, (_, model) in models.items()
    ]
    with run_in_thread(lambda: router_with_tiers(*tiers, env=addresses)) as value:
        yield value.url, {name: far for name, (far, _) in models.items()}


@pytest.mark.parametrize(
    ("tier", "values", "expected"),
    [
        ("opus", {}, {}),
        ("sonnet", {}, {"temperature": 0.2, "top_k": 20}),
        ("sonnet", {"temperature": 1}, {"temperature": 1, "top_k": 20}),
        ("sonnet", {"top_p": 0.5}, {"top_p": 0.5, "top_k": 20}),
        ("mistral", {}, {"temperature": 0.2, "top_p": 0.9}),
        ("ollama", {"min_p": 0}, {**ALL, "min_p": 0}),
    ],
)
def test_missing_sampling_values_are_added_if_the_model_accepts_them(
    router_with_sampling: tuple[str, dict[str, FakeProvider]],
    tier: str,
    values: dict[str, float],
    expected: dict[str, float],
) -> None:
    url, far = router_with_sampling
    body = {"model": tier, "messages": HELLO, "max_tokens": 9, **values}
    assert httpx.post(f"{url}/v1/chat/completions", json=body).status_code == 200
    assert {name: far[tier].last[name] for name in ALL if name in far[tier].last} == expected


def test_no_sampling_values_are_added_for_newer_versions_of_anthropics_api(
    router_with_sampling: tuple[str, dict[str, FakeProvider]],
) -> None:
    url, far = router_with_sampling
    body = {"model": "sonnet", "messages": HELLO, "max_tokens": 9}
    newer = {"anthropic-version": "2026-10-21"}
    assert httpx.post(f"{url}/v1/messages", json=body, headers=newer).status_code == 200
    assert not ALL.keys() & far["sonnet"].last.keys()
    assert httpx.post(f"{url}/v1/messages", json=body).status_code == 200
    assert far["sonnet"].last["top_k"] == 20


async def test_a_request_that_the_provider_does_not_support_is_refused(claude: FakeProvider) -> None:
    async with router_with_tiers(
        server_tier("far", "anthropic/claude-haiku-4-5-20251001", claude.url)
    ) as running:
        reply = await chat(running, chat_request(model="far", n=3))
        assert reply.status == 400
        assert "far is anthropic/claude-haiku" in reply.error["message"]


async def test_an_unreachable_server_is_named_in_the_error() -> None:
    async with router_with_tiers(server_tier("near", "vllm/m", "http://127.0.0.1:1", Role.FAST)) as running:
        reply = await chat(running, chat_request())
        assert reply.status == 502
        assert reply.error["origin"] == "provider"
        assert reply.error["message"] == (
            "the model server of near: http://127.0.0.1:1/v1 (from base_url): cannot connect: "
            "Connection refused (start vLLM there, or correct `base_url`)"
        )


async def test_the_routers_own_address_is_refused() -> None:
    async with router_with_tiers(server_tier("near", "vllm/m", "http://localhost:9", Role.FAST)) as running:
        reply = await chat(running, chat_request())
        assert reply.status == 503
        assert "is this router's own address" in reply.error["message"]
        (tier_status,) = status(running.app.service)["tiers"]
        assert tier_status["state"] == "down"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_of_an_mcp_server_serves_a_tier(tmp_path: Path, path: str, *, stream: bool) -> None:
    command = (sys.executable, str(MCP_MODEL), "plain")
    tool = Tier("tool", BackendKind.MCP, McpModel(command, "complete"), 64_000, role=Role.FAST)
    async with router_with_tiers(tool, work_dir=tmp_path) as running:
        body = chat_request("hello there", max_tokens=50, stream=stream)
        first = await request(running, "POST", path, body)
        assert (first.status, b"hello there" in first.body) == (200, True), first.body
        assert running.recent[-1]["outcome"] == "ok"
        crashed = await request(running, "POST", path, chat_request("crash", max_tokens=50, stream=stream))
        assert crashed.status == 502
        assert "ended:\nthe weights are gone" in crashed.error["message"]
        assert running.recent[-1]["outcome"] == "upstream_502"
        running.app.service.cooldowns.note_success("tool")
        again = await request(running, "POST", path, body)
        assert (again.status, b"hello there" in again.body) == (200, True), again.body
        other = await request(running, "POST", "/v1/embeddings", {"model": "tool", "input": "x"})
        assert other.status == 404


async def test_a_tier_that_is_served_elsewhere_cannot_be_loaded() -> None:
    async with router_with_tiers(server_tier("far", "ollama/x", "http://127.0.0.1:1")) as running:
        backend = running.app.service.backends[BackendKind.SERVER]
        with pytest.raises(TierUnavailableError, match="far has no model to load"):
            await backend.load("far")
        assert not await backend.unload("far")

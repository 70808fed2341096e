"""Compare with Google's own SDK: it sends the same requests and reads the same responses as we do."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from google import genai
from google.genai import errors, types
from support.google_native import NeutralRequest, read_chat_request, read_native_request
from support.providers import KEY, provider
from support.translating import translated

from llmstack import providers
from llmstack.providers.model_aliases import load_bundled_aliases
from llmstack.providers.translation import translate
from llmstack.providers.translation.failures import parse_failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.providers import FakeProvider

    from llmstack.providers.model_api import Model

MODEL = "gemini-flash-latest"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PIXEL = b"\x89PNG"
# Parameters that change how the endpoint responds, and have no counterpart in Google's own API.
ENDPOINT_PARAMETERS = {"model", "messages", "stream", "stream_options", "parallel_tool_calls", "extra_body"}
NATIVE_NAMES = {
    "max_tokens": "max_output_tokens",
    "n": "candidate_count",
    "stop": "stop_sequences",
    "response_format": "response_json_schema",
    "reasoning_effort": "thinking_config",
    "tool_choice": "tool_config",
}


@contextmanager
def both_clients(config_dir: Path) -> Iterator[tuple[genai.Client, Model, FakeProvider]]:
    """Yield Google's client and our model at the same fake provider."""
    with provider("google") as fake:
        env = {"GOOGLE_API_KEY": KEY, "GOOGLE_BASE_URL": fake.url}
        ours = providers.model(f"google/{MODEL}", env=env, config_dir=config_dir, retries=0)
        with genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=fake.url)) as theirs:
            yield theirs, ours, fake


def test_the_translated_conversation_equals_googles(tmp_path: Path) -> None:
    image = types.Part.from_bytes(data=PIXEL, mime_type="image/png")
    call = types.FunctionCall(id="call_1", name="get_weather", args={"city": "Rome"})
    result = types.FunctionResponse(id="call_1", name="get_weather", response={"result": "sun"})
    turns: list[Any] = [
        types.Content(role="user", parts=[types.Part(text="look"), image]),
        types.Content(role="model", parts=[types.Part(text="I look."), types.Part(function_call=call)]),
        types.Content(role="user", parts=[types.Part(function_response=result), types.Part(text="and?")]),
    ]
    tool = types.FunctionDeclaration(name="get_weather", description="Look.", parameters_json_schema=CITY)
    must = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        max_output_tokens=99,
        temperature=0.3,
        top_p=0.9,
        stop_sequences=["END"],
        response_mime_type="application/json",
        response_json_schema=CITY,
        tools=[types.Tool(function_declarations=[tool])],
        tool_config=types.ToolConfig(function_calling_config=must),
    )
    with both_clients(tmp_path) as (theirs, _, fake):
        theirs.models.generate_content(model=MODEL, contents=turns, config=config)
        expected = read_native_request(fake.last)
    assert _our_request() == expected


def user(*blocks: Any) -> Any:
    return {"role": "user", "content": [*blocks]}


def _our_request() -> NeutralRequest:
    """Return what Google gets if a client of Anthropic's API sends the same conversation."""
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PIXEL).decode()}
    body = {
        "model": "auto",
        "system": "Be brief.",
        "max_tokens": 99,
        "temperature": 0.3,
        "top_p": 0.9,
        "top_k": 5,
        "stop_sequences": ["END"],
        "output_config": {"format": {"type": "json_schema", "schema": CITY}},
        "tools": [{"name": "get_weather", "description": "Look.", "input_schema": CITY}],
        "tool_choice": {"type": "any"},
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "look"}, {"type": "image", "source": source}],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Rome"}},
                ],
            },
            user(
                {"type": "tool_result", "tool_use_id": "call_1", "content": "sun"},
                {"type": "text", "text": "and?"},
            ),
        ],
    }
    limits = load_bundled_aliases().limits_for("google", MODEL)
    translated_request = translate(
        json.dumps(body).encode(), "messages", "chat", model=MODEL, limits=limits, now=1
    )
    return read_chat_request(json.loads(translated_request.body))


def test_every_parameter_that_is_sent_exists_in_googles_api() -> None:
    limits = load_bundled_aliases().limits_for("google", MODEL)
    assert limits.takes > ENDPOINT_PARAMETERS
    for name in limits.takes - ENDPOINT_PARAMETERS:
        assert NATIVE_NAMES.get(name, name) in types.GenerateContentConfig.model_fields, name


@pytest.mark.parametrize("words", ["hello", "long ä", "think"])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_same_result_is_read(words: str, *, streamed: bool, tmp_path: Path) -> None:
    with both_clients(tmp_path) as (theirs, ours, _):
        if streamed:
            pieces = [*theirs.models.generate_content_stream(model=MODEL, contents=words)]
            text, last = [piece.text for piece in pieces], pieces[-1]
            stream = ours.stream(words)
            assert list(stream) == text
            result = stream.result
        else:
            last = theirs.models.generate_content(model=MODEL, contents=words)
            text, result = [last.text], ours.call(words)
    assert result is not None
    assert last.usage_metadata is not None
    assert last.candidates is not None
    usage = last.usage_metadata
    completion_tokens = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    reasons = {types.FinishReason.STOP: "stop", types.FinishReason.MAX_TOKENS: "length"}
    assert result == providers.Result(
        "".join(piece or "" for piece in text),
        str(last.model_version),
        "google",
        providers.TokensUsed(usage.prompt_token_count or 0, completion_tokens),
        reasons[last.candidates[0].finish_reason],  # type: ignore[index]
    )
    assert result.tokens_used.total == usage.total_token_count


@pytest.mark.parametrize("streamed", [False, True])
def test_the_same_tool_calls_are_read(*, streamed: bool, tmp_path: Path) -> None:
    words = "the weather in Paris and Rome?"
    declaration = types.FunctionDeclaration(name="look", description="Look.", parameters_json_schema=CITY)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declaration])])
    with both_clients(tmp_path) as (theirs, _, _fake):
        if streamed:
            responses = [*theirs.models.generate_content_stream(model=MODEL, contents=words, config=config)]
        else:
            responses = [theirs.models.generate_content(model=MODEL, contents=words, config=config)]
    expected = [call for response in responses for call in response.function_calls or ()]
    with (
        translated("messages", "google", "flash") as (url, _fake),
        anthropic.Anthropic(base_url=url, api_key="x", max_retries=0) as client,
    ):
        tool: Any = {"name": "look", "description": "Look.", "input_schema": CITY}
        arguments: Any = {"model": "x", "max_tokens": 9, "messages": [user({"type": "text", "text": words})]}
        if streamed:
            with client.messages.stream(**arguments, tools=[tool]) as stream:
                content = stream.get_final_message().content
        else:
            content = client.messages.create(**arguments, tools=[tool]).content
    calls = [(block.id, block.name, block.input) for block in content if block.type == "tool_use"]
    assert len(calls) == 2
    assert calls == [(call.id, call.name, call.args) for call in expected]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_the_same_error_is_read(status: int, *, streamed: bool, tmp_path: Path) -> None:
    words = f"error {status} after 45.837906927"
    with both_clients(tmp_path) as (theirs, ours, _):
        generate = theirs.models.generate_content_stream if streamed else theirs.models.generate_content
        with pytest.raises(errors.APIError) as expected:
            list(generate(model=MODEL, contents=words))
        with pytest.raises(providers.ProviderError) as raised:
            list(ours.stream(words)) if streamed else ours.call(words)
    native_error = expected.value
    failure = parse_failure(native_error.code, json.dumps([native_error.details]).encode(), {}, secrets=[KEY])
    assert native_error.message is not None
    assert (failure.status, failure.code, failure.retry_after) == (
        native_error.code,
        native_error.status,
        45.837906927,
    )
    assert failure.message == native_error.message.replace(KEY, "…")
    assert raised.value.message == f"google/{MODEL} answered {status}: {failure.message}"
    if isinstance(raised.value, providers.RateLimitedError):
        assert raised.value.retry_after == failure.retry_after

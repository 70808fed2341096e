"""The official SDKs, through a translation, against fakes that are as strict as real providers."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from support.translating import translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.providers import FakeProvider

pytestmark = pytest.mark.filterwarnings("ignore:The model.*deprecated:DeprecationWarning")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PIXEL = "iVBORw0KGgo="
CHAT_TOOLS: Any = [
    {"type": "function", "function": {"name": name, "description": f"Do {name}.", "parameters": SCHEMA}}
    for name in ("get_weather", "ping")
]
ANTHROPIC_TOOLS: Any = [
    {"name": name, "description": f"Do {name}.", "input_schema": SCHEMA} for name in ("get_weather", "ping")
]
RESPONSES_TOOLS: Any = [
    {"type": "function", "name": name, "description": f"Do {name}.", "parameters": SCHEMA, "strict": False}
    for name in ("get_weather", "ping")
]


@contextmanager
def chat_client(
    kind: str = "anthropic", model: str = "sonnet"
) -> Iterator[tuple[openai.OpenAI, FakeProvider]]:
    with translated("chat", kind, model) as (url, fake), _openai(url) as client:
        yield client, fake


@contextmanager
def responses_client(kind: str, model: str) -> Iterator[tuple[openai.OpenAI, FakeProvider]]:
    with translated("responses", kind, model) as (url, fake), _openai(url) as client:
        yield client, fake


@contextmanager
def anthropic_client(kind: str, model: str) -> Iterator[tuple[anthropic.Anthropic, FakeProvider]]:
    with (
        translated("messages", kind, model) as (url, fake),
        anthropic.Anthropic(base_url=url, api_key="x", max_retries=0) as client,
    ):
        yield client, fake


def _openai(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)


def user(text: Any) -> Any:
    return {"role": "user", "content": text}


# a chat client at Anthropic


def test_a_chat_request_is_served_by_anthropic() -> None:
    with chat_client() as (client, fake):
        answer = client.chat.completions.create(
            model="auto",
            messages=[{"role": "system", "content": "Be brief."}, user("hello")],
            temperature=1.9,
            top_p=0.5,
            stop=["END", " "],
            user="someone",
            seed=5,
        )
    assert fake.last == {
        "model": "claude-sonnet-4-6",
        "max_tokens": 4096,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [user([{"type": "text", "text": "hello"}])],
        "temperature": 1.0,
        "stop_sequences": ["END"],
    }
    assert answer.choices[0].message.content == "You said: hello."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (30, 7)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 20


def test_a_streamed_chat_request_is_served_by_anthropic() -> None:
    with (
        chat_client() as (client, _),
        client.chat.completions.stream(
            model="auto", messages=[user("so, hällo")], stream_options={"include_usage": True}
        ) as stream,
    ):
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert pieces == ["", "You said: ", "so, hällo", "."]
    assert final.choices[0].finish_reason == "stop"
    assert final.usage is not None
    assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (30, 7)


def test_a_completion_cut_at_max_tokens_finishes_with_length() -> None:
    with chat_client() as (client, _):
        answer = client.chat.completions.create(model="auto", messages=[user("long")], max_tokens=3)
    assert answer.choices[0].finish_reason == "length"


def test_usage_is_streamed_only_if_the_client_asks_for_it() -> None:
    with chat_client() as (client, _):
        chunks = list(client.chat.completions.create(model="auto", messages=[user("hi")], stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, None, "stop"]


@pytest.mark.parametrize("streamed", [False, True])
def test_chat_tools_are_served_by_anthropic(*, streamed: bool) -> None:
    messages: list[Any] = [{"role": "system", "content": "Look."}, user("the weather in Paris and Rome?")]
    with chat_client() as (client, fake):
        arguments: Any = {"model": "auto", "messages": messages, "tools": CHAT_TOOLS}
        if streamed:
            with client.chat.completions.stream(**arguments) as stream:
                message = stream.get_final_completion().choices[0].message
        else:
            answer = client.chat.completions.create(**arguments)
            assert answer.choices[0].finish_reason == "tool_calls"
            message = answer.choices[0].message
        assert message.content == "I look."
        calls: Any = message.tool_calls
        assert [(c.id, c.function.name, json.loads(c.function.arguments)) for c in calls] == [
            ("call_Paris", "get_weather", {"city": "Paris"}),
            ("call_Rome", "get_weather", {"city": "Rome"}),
        ]
        assert fake.last["tools"][0] == ANTHROPIC_TOOLS[0]
        ephemeral = {"type": "ephemeral"}
        assert fake.last["system"][-1]["cache_control"] == ephemeral
        assert fake.last["messages"][-1]["content"][-1]["cache_control"] == ephemeral
        results = [{"role": "tool", "tool_call_id": c.id, "content": f"sun in {c.id}"} for c in calls]
        conversation = [*messages, message.to_dict(), *results, user("and?")]
        second = client.chat.completions.create(
            model="auto",
            messages=conversation,
            tools=CHAT_TOOLS,
            tool_choice="required",
            parallel_tool_calls=False,
        )
        assert second.choices[0].message.content == "The tools say: sun in call_Paris, sun in call_Rome"
        assert fake.last["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
        without_tools = client.chat.completions.create(model="auto", messages=conversation)
        assert without_tools.choices[0].message.content is not None
        assert fake.last["tool_choice"] == {"type": "none"}


def test_a_call_without_arguments_is_an_empty_object() -> None:
    with (
        chat_client() as (client, _),
        client.chat.completions.stream(model="auto", messages=[user("ping")], tools=CHAT_TOOLS) as stream,
    ):
        calls: Any = stream.get_final_completion().choices[0].message.tool_calls
    assert [(call.function.name, call.function.arguments) for call in calls] == [("ping", "{}")]


def test_images_and_files_are_sent_to_anthropic() -> None:
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="}},
    ]
    with chat_client() as (client, fake):
        client.chat.completions.create(model="auto", messages=[user(parts)])
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}
    assert fake.last["messages"][0]["content"][1:] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {"type": "document", "source": pdf},
    ]


def test_reasoning_and_structured_output_are_translated() -> None:
    response_format: Any = {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": SCHEMA, "strict": True},
    }
    with chat_client() as (client, fake):
        answer = client.chat.completions.create(
            model="auto", messages=[user("think")], reasoning_effort="xhigh", response_format=response_format
        )
    assert answer.choices[0].message.to_dict()["reasoning_content"] == "Let me see."
    assert fake.last["output_config"] == {
        "effort": "max",
        "format": {"type": "json_schema", "schema": SCHEMA},
    }


def test_opus_gets_no_sampling_parameters_and_haiku_no_effort() -> None:
    for model in ("opus", "haiku"):
        with chat_client(model=model) as (client, fake):
            client.chat.completions.create(
                model="auto", messages=[user("hi")], temperature=0.5, reasoning_effort="low", top_p=0.4
            )
            assert "top_p" not in fake.last
            assert ("temperature" in fake.last, "output_config" in fake.last) == (
                model == "haiku",
                model == "opus",
            )


@pytest.mark.parametrize("words", ["please break", "please cut"])
def test_a_failed_stream_has_no_clean_end_for_a_chat_client(words: str) -> None:
    with chat_client() as (client, _):
        stream = client.chat.completions.create(model="auto", messages=[user(words)], stream=True)
        if "break" in words:
            with pytest.raises(openai.APIError, match="Overloaded"):
                list(stream)
        else:
            assert all(chunk.choices[0].finish_reason is None for chunk in stream)


# an Anthropic client at chat servers

CHAT_MODELS = [("openai", "gpt-5.2"), ("openai", "gpt-4o"), ("google", "flash"), ("mistral", "small")]


@pytest.mark.parametrize(("kind", "model"), CHAT_MODELS)
@pytest.mark.parametrize("streamed", [False, True])
def test_anthropic_tools_are_served_by_chat_providers(kind: str, model: str, *, streamed: bool) -> None:
    messages: list[Any] = [user("the weather in Paris and Rome?")]
    with anthropic_client(kind, model) as (client, fake):
        arguments: Any = {
            "model": "auto",
            "max_tokens": 100,
            "system": [{"type": "text", "text": "Look.", "cache_control": {"type": "ephemeral"}}],
            "extra_body": {"temperature": 0.3, "top_k": 5},  # this SDK no longer knows them
            "stop_sequences": ["END"],
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "max"},
            "metadata": {"user_id": "u"},
            "tools": [*ANTHROPIC_TOOLS, {"type": "web_search_20250305", "name": "web_search"}],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        }
        if streamed:
            with client.messages.stream(messages=messages, **arguments) as stream:
                answer = stream.get_final_message()
        else:
            answer = client.messages.create(messages=messages, **arguments)
        assert answer.stop_reason == "tool_use"
        usage = (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens)
        assert usage == (10, 20, 7)
        assert [block.to_dict() for block in answer.content] == [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "call_Paris", "name": "get_weather", "input": {"city": "Paris"}},
            {"type": "tool_use", "id": "call_Rome", "name": "get_weather", "input": {"city": "Rome"}},
        ]
        assert fake.last["messages"][0] == {"role": "system", "content": "Look."}
        assert [tool["function"]["name"] for tool in fake.last["tools"]] == ["get_weather", "ping"]
        assert fake.last["parallel_tool_calls"] is False
        results = [
            {"type": "tool_result", "tool_use_id": "call_Paris", "content": "sun"},
            {"type": "tool_result", "tool_use_id": "call_Rome", "content": "gone", "is_error": True},
            {"type": "text", "text": "and?"},
        ]
        turns: Any = [*messages, {"role": "assistant", "content": answer.content}, user(results)]
        client.messages.create(messages=turns, **arguments)
        assert fake.last["messages"][2]["tool_calls"][0]["id"] == "call_Paris"
        inserted = [{"role": "assistant", "content": "Done."}] if kind == "mistral" else []
        assert fake.last["messages"][3:] == [
            {"role": "tool", "tool_call_id": "call_Paris", "content": "sun"},
            {"role": "tool", "tool_call_id": "call_Rome", "content": "Error: gone"},
            *inserted,
            {"role": "user", "content": "and?"},
        ]


@pytest.mark.parametrize(("kind", "model"), CHAT_MODELS)
def test_an_anthropic_stream_is_served_by_chat_providers(kind: str, model: str) -> None:
    with anthropic_client(kind, model) as (client, fake):
        with client.messages.stream(model="auto", max_tokens=9, messages=[user("long ä")]) as stream:
            pieces = list(stream.text_stream)
            final = stream.get_final_message()
        assert pieces == ["You said: ", "long ä", "."]
        assert final.stop_reason == "max_tokens"
        assert fake.last.get("max_completion_tokens", fake.last.get("max_tokens")) == 9
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        client.messages.create(
            model="auto",
            max_tokens=9,
            messages=[user([{"type": "text", "text": "see"}, {"type": "image", "source": source}])],
        )
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        assert fake.last["messages"][0]["content"][1] == image


@pytest.mark.parametrize("streamed", [False, True])
def test_reasoning_comes_before_the_text(*, streamed: bool) -> None:
    with anthropic_client("openai", "gpt-4o") as (client, _):
        arguments: Any = {"model": "auto", "max_tokens": 9, "messages": [user("think")]}
        if streamed:
            with client.messages.stream(**arguments) as stream:
                answer = stream.get_final_message()
        else:
            answer = client.messages.create(**arguments)
    assert [block.type for block in answer.content] == ["thinking", "text"]


@pytest.mark.parametrize("words", ["please break", "please cut"])
def test_a_failed_stream_has_no_clean_end_for_an_anthropic_client(words: str) -> None:
    with anthropic_client("openai", "gpt-4o") as (client, _):
        events = []
        stream = client.messages.create(model="auto", max_tokens=9, messages=[user(words)], stream=True)
        if "break" in words:
            with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
                events += list(stream)
        else:
            events += list(stream)
    assert "message_stop" not in [event.type for event in events]


# a client of responses


@pytest.mark.parametrize(
    ("kind", "model"), [("anthropic", "sonnet"), ("google", "flash"), ("mistral", "small")]
)
@pytest.mark.parametrize("streamed", [False, True])
def test_responses_with_tools_are_served_by_other_providers(kind: str, model: str, *, streamed: bool) -> None:
    items: list[Any] = [
        {"role": "developer", "content": [{"type": "input_text", "text": "Look."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "the weather in Paris and Rome?"}]},
    ]
    with responses_client(kind, model) as (client, _):
        arguments: Any = {
            "model": "auto",
            "instructions": "Be brief.",
            "tools": [*RESPONSES_TOOLS, {"type": "web_search"}],
            "reasoning": {"effort": "low"},
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "max_output_tokens": 50,
        }
        if streamed:
            with client.responses.stream(input=items, **arguments) as stream:
                kinds = [event.type for event in stream]
                answer = stream.get_final_response()
            assert kinds[:2] == ["response.created", "response.in_progress"]
            assert kinds[-1] == "response.completed"
        else:
            answer = client.responses.create(input=items, **arguments)
        assert answer.output_text == "I look."
        calls: Any = [item for item in answer.output if item.type == "function_call"]
        assert [(c.call_id, c.name, json.loads(c.arguments)) for c in calls] == [
            ("call_Paris", "get_weather", {"city": "Paris"}),
            ("call_Rome", "get_weather", {"city": "Rome"}),
        ]
        assert answer.usage is not None
        tokens = (answer.usage.input_tokens, answer.usage.output_tokens)
        assert (*tokens, answer.usage.input_tokens_details.cached_tokens) == (30, 7, 20)
        outputs: list[Any] = [
            {"type": "function_call_output", "call_id": c.call_id, "output": "sun"} for c in calls
        ]
        output: list[Any] = [item.to_dict() for item in answer.output]
        last = client.responses.create(input=[*items, *output, *outputs], **arguments)
        assert last.output_text == "The tools say: sun, sun"


@pytest.mark.parametrize("streamed", [False, True])
def test_namespaced_and_custom_tools_are_called_as_the_client_offered_them(*, streamed: bool) -> None:
    tools: Any = [
        {"type": "namespace", "name": "mcp__sky", "tools": [RESPONSES_TOOLS[0]]},
        {"type": "custom", "name": "patch", "description": "Patch.", "format": {"type": "text"}},
    ]
    with responses_client("google", "flash") as (client, fake):
        answers: list[Any] = []
        for words in ("weather", "ping"):
            arguments: Any = {"model": "auto", "input": words, "tools": tools}
            if streamed:
                with client.responses.stream(**arguments) as stream:
                    answers.append(stream.get_final_response())
            else:
                answers.append(client.responses.create(**arguments))
        names = [tool["function"]["name"] for tool in fake.last["tools"]]
        assert names == ["mcp__sky__get_weather", "patch"]
        item = answers[0].output[-1].to_dict()
        assert (item["type"], item["name"], item["namespace"]) == ("function_call", "get_weather", "mcp__sky")
        assert answers[1].output[-1].type == "custom_tool_call"
        items = [item, {"type": "function_call_output", "call_id": item["call_id"], "output": "sun"}]
        client.responses.create(model="auto", input=items, tools=tools)
        assert fake.last["messages"][0]["tool_calls"][0]["function"]["name"] == "mcp__sky__get_weather"


@pytest.mark.parametrize(("kind", "model"), [("anthropic", "sonnet"), ("google", "flash")])
def test_a_response_that_is_cut_off_fails_or_is_incomplete(kind: str, model: str) -> None:
    with responses_client(kind, model) as (client, _):
        whole = client.responses.create(model="auto", input="long")
        assert (whole.status, whole.incomplete_details and whole.incomplete_details.reason) == (
            "incomplete",
            "max_output_tokens",
        )
        events = list(client.responses.create(model="auto", input="please break", stream=True))
        assert events[-1].type == "response.failed"
        assert events[-1].response.error is not None
        assert events[-1].response.error.message == "Overloaded"
        events = list(client.responses.create(model="auto", input="please cut", stream=True))
        assert not {event.type for event in events} & {"response.completed", "response.failed"}

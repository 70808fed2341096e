"""Unusual chat completions that some servers write, and conversations in the form that all servers accept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmstack.providers.errors import MalformedResponseError
from llmstack.providers.limits import ModelLimits
from llmstack.providers.translation import translate
from llmstack.providers.translation.sse import SseParser

if TYPE_CHECKING:
    from llmstack.providers.catalog import Dialect
    from llmstack.providers.translation import TranslatedRequest

Json = dict[str, Any]


def translated(client: Dialect, server: Dialect = "chat", **members: Any) -> TranslatedRequest:
    request: Json = {
        "messages": [{"role": "user", "content": "hi"}],
        "input": "hi",
        "stream": True,
        **members,
    }
    return translate(json.dumps(request).encode(), client, server, model="m", limits=ModelLimits(), now=1)


def events(client: Dialect, *deltas: Json, finish: str = "tool_calls") -> list[Json]:
    """Return the translation of a stream of these deltas."""
    choices = [*({"delta": delta} for delta in deltas), {"delta": {}, "finish_reason": finish}]
    chunks = b"".join(b"data: %b\n\n" % json.dumps({"choices": [c]}).encode() for c in choices)
    stream = translated(client).start_stream()
    return [json.loads(data) for data in SseParser().feed(stream.feed(chunks) + stream.close())]


def call(index: int, **function: str) -> Json:
    """Return a delta with a piece of a tool call."""
    call_id = {"id": function.pop("id")} if "id" in function else {}
    return {"tool_calls": [{"index": index, **call_id, "function": function}]}


def read_blocks(events: list[Json]) -> list[tuple[str, str]]:
    """Return the blocks in Anthropic's events: id of the call, or type, and the text or arguments."""
    blocks: list[tuple[str, str]] = []
    for event in events:
        if event["type"] == "content_block_start":
            block = event["content_block"]
            blocks.append((block.get("id", block["type"]), ""))
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            name, text = blocks[event["index"]]
            blocks[event["index"]] = name, text + (delta.get("partial_json") or delta.get("text"))
    return blocks


def read_calls(events: list[Json]) -> list[tuple[str, str]]:
    """Return id and arguments of the calls in a response."""
    return [(item["call_id"], item["arguments"]) for item in events[-1]["response"]["output"]]


def test_calls_with_the_same_index_are_distinguished_by_id() -> None:
    deltas = [call(0, id=i, name="f", arguments=f'{{"x":{n}}}') for n, i in enumerate("abc")]
    calls = [("a", '{"x":0}'), ("b", '{"x":1}'), ("c", '{"x":2}')]
    assert read_blocks(events("messages", *deltas)) == calls
    assert read_calls(events("responses", *deltas)) == calls


def test_a_repeated_id_or_a_new_one_without_a_name_continues_the_call() -> None:
    deltas = (
        call(0, id="a", name="f", arguments='{"x"'),
        call(0, id="a", name="f", arguments=":"),
        call(0, id="b", arguments="1}"),
    )
    assert read_blocks(events("messages", *deltas)) == [("a", '{"x":1}')]


def test_text_in_the_middle_of_a_call_does_not_split_it() -> None:
    deltas = (
        {"content": "Look: "},
        call(0, id="a", name="f", arguments='{"x":'),
        {"content": "so", "reasoning_content": "hm"},
        call(0, arguments="1}"),
        {"content": "!"},
    )
    assert read_blocks(events("messages", *deltas)) == [("text", "Look: "), ("a", '{"x":1}'), ("text", "so!")]


def test_a_response_that_filled_the_context_window_is_incomplete() -> None:
    delta = {"content": "half"}
    *_, last, _ = events("messages", delta, finish="model_length")
    assert last["delta"]["stop_reason"] == "max_tokens"
    response = events("responses", delta, finish="model_length")[-1]["response"]
    assert (response["status"], response["incomplete_details"]["reason"]) == (
        "incomplete",
        "max_output_tokens",
    )


@pytest.mark.parametrize("client", ["messages", "responses"])
def test_a_finish_reason_error_makes_the_response_malformed(client: Dialect) -> None:
    with pytest.raises(MalformedResponseError, match="the model failed"):
        events(client, {"content": "half"}, finish="error")
    whole = {"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]}
    with pytest.raises(MalformedResponseError, match="the model failed"):
        translated(client).translate_response(json.dumps(whole).encode())


def tool_output(call_id: str, output: Any) -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


FUNCTION_CALLS = [{"type": "function_call", "call_id": i, "name": "f", "arguments": "{}"} for i in "ab"]
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA"}
ASSISTANT_MESSAGE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "I look."}],
}


@pytest.mark.parametrize(("server", "roles"), [("chat", "assistant tool tool user user"), ("messages", None)])
def test_images_of_tool_outputs_follow_all_outputs(server: Dialect, roles: str | None) -> None:
    conversation = [
        *FUNCTION_CALLS,
        tool_output("a", [IMAGE]),
        tool_output("b", [IMAGE]),
        {"role": "user", "content": "go on"},
    ]
    messages = json.loads(translated("responses", server, input=conversation).body)["messages"]
    if roles is not None:
        assert " ".join(message["role"] for message in messages) == roles
        assert [part["type"] for part in messages[3]["content"]] == ["image_url", "image_url"]
    else:
        kinds = [block["type"] for block in messages[1]["content"]]
        assert kinds == ["tool_result", "tool_result", "image", "image", "text"]


def test_text_after_a_call_does_not_separate_it_from_its_output() -> None:
    conversation = [
        FUNCTION_CALLS[0],
        ASSISTANT_MESSAGE,
        FUNCTION_CALLS[1],
        tool_output("a", "1"),
        tool_output("b", "2"),
    ]
    first, *results = json.loads(translated("responses", input=conversation).body)["messages"]
    assert (first["content"], [each["id"] for each in first["tool_calls"]]) == ("I look.", ["a", "b"])
    assert [message["role"] for message in results] == ["tool", "tool"]


def test_an_assistant_message_is_inserted_between_tool_and_user() -> None:
    limits = ModelLimits(after_tools="Done.")
    user, tool = {"role": "user", "content": "hi"}, {"role": "tool", "tool_call_id": "a", "content": "1"}
    inserted = {"role": "assistant", "content": "Done."}
    body = {"messages": [user, tool, tool, user, user, inserted, tool]}
    fitted = {"messages": [user, tool, tool, inserted, user, user, inserted, tool]}
    assert json.loads(limits.fit_bytes(json.dumps(body).encode())) == fitted

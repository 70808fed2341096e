"""Chat completions as some servers write them, and conversations as they have to be put to all of them."""

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


def made(client: Dialect, server: Dialect = "chat", **more: Any) -> TranslatedRequest:
    said: Json = {"messages": [{"role": "user", "content": "hi"}], "input": "hi", "stream": True, **more}
    return translate(json.dumps(said).encode(), client, server, model="m", limits=ModelLimits(), now=1)


def events(client: Dialect, *deltas: Json, finish: str = "tool_calls") -> list[Json]:
    """Return what becomes of a stream of these deltas."""
    choices = [*({"delta": delta} for delta in deltas), {"delta": {}, "finish_reason": finish}]
    chunks = b"".join(b"data: %b\n\n" % json.dumps({"choices": [c]}).encode() for c in choices)
    stream = made(client).start_stream()
    return [json.loads(data) for data in SseParser().feed(stream.feed(chunks) + stream.close())]


def call(index: int, **function: str) -> Json:
    given = {"id": function.pop("id")} if "id" in function else {}
    return {"tool_calls": [{"index": index, **given, "function": function}]}


def blocks(said: list[Json]) -> list[tuple[str, str]]:
    """Return the blocks of Anthropic's events: id of a call, or kind, and all that was written in it."""
    found: list[tuple[str, str]] = []
    for event in said:
        if event["type"] == "content_block_start":
            block = event["content_block"]
            found.append((block.get("id", block["type"]), ""))
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            name, text = found[event["index"]]
            found[event["index"]] = name, text + (delta.get("partial_json") or delta.get("text"))
    return found


def items(said: list[Json]) -> list[tuple[str, str]]:
    """Return the calls of a response."""
    return [(item["call_id"], item["arguments"]) for item in said[-1]["response"]["output"]]


def test_calls_that_all_have_one_number_are_told_apart_by_their_ids() -> None:
    deltas = [call(0, id=i, name="f", arguments=f'{{"x":{n}}}') for n, i in enumerate("abc")]
    calls = [("a", '{"x":0}'), ("b", '{"x":1}'), ("c", '{"x":2}')]
    assert blocks(events("messages", *deltas)) == calls
    assert items(events("responses", *deltas)) == calls


def test_an_id_that_is_repeated_or_changed_without_a_name_is_the_same_call() -> None:
    deltas = (
        call(0, id="a", name="f", arguments='{"x"'),
        call(0, id="a", name="f", arguments=":"),
        call(0, id="b", arguments="1}"),
    )
    assert blocks(events("messages", *deltas)) == [("a", '{"x":1}')]


def test_words_in_the_middle_of_a_call_do_not_make_it_two() -> None:
    deltas = (
        {"content": "Look: "},
        call(0, id="a", name="f", arguments='{"x":'),
        {"content": "so", "reasoning_content": "hm"},
        call(0, arguments="1}"),
        {"content": "!"},
    )
    assert blocks(events("messages", *deltas)) == [("text", "Look: "), ("a", '{"x":1}'), ("text", "so!")]


def test_an_answer_that_filled_the_window_is_not_complete() -> None:
    delta = {"content": "half"}
    *_, last, _ = events("messages", delta, finish="model_length")
    assert last["delta"]["stop_reason"] == "max_tokens"
    response = events("responses", delta, finish="model_length")[-1]["response"]
    assert (response["status"], response["incomplete_details"]["reason"]) == (
        "incomplete",
        "max_output_tokens",
    )


@pytest.mark.parametrize("client", ["messages", "responses"])
def test_an_answer_that_ended_with_an_error_is_none(client: Dialect) -> None:
    with pytest.raises(MalformedResponseError, match="the model failed"):
        events(client, {"content": "half"}, finish="error")
    whole = {"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]}
    with pytest.raises(MalformedResponseError, match="the model failed"):
        made(client).translate_response(json.dumps(whole).encode())


def returned(call_id: str, output: Any) -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


CALLS = [{"type": "function_call", "call_id": i, "name": "f", "arguments": "{}"} for i in "ab"]
SHOWN = {"type": "input_image", "image_url": "data:image/png;base64,AA"}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]}


@pytest.mark.parametrize(("server", "roles"), [("chat", "assistant tool tool user user"), ("messages", None)])
def test_pictures_that_tools_show_come_after_all_results(server: Dialect, roles: str | None) -> None:
    given = [*CALLS, returned("a", [SHOWN]), returned("b", [SHOWN]), {"role": "user", "content": "go on"}]
    messages = json.loads(made("responses", server, input=given).body)["messages"]
    if roles is not None:
        assert " ".join(message["role"] for message in messages) == roles
        assert [part["type"] for part in messages[3]["content"]] == ["image_url", "image_url"]
    else:
        kinds = [block["type"] for block in messages[1]["content"]]
        assert kinds == ["tool_result", "tool_result", "image", "image", "text"]


def test_what_a_model_said_after_a_call_does_not_part_it_from_its_result() -> None:
    given = [CALLS[0], SAID, CALLS[1], returned("a", "1"), returned("b", "2")]
    first, *results = json.loads(made("responses", input=given).body)["messages"]
    assert (first["content"], [each["id"] for each in first["tool_calls"]]) == ("I look.", ["a", "b"])
    assert [message["role"] for message in results] == ["tool", "tool"]


def test_a_model_that_must_answer_a_tool_before_the_user_speaks_has_done_so() -> None:
    limits = ModelLimits(after_tools="Done.")
    user, tool = {"role": "user", "content": "hi"}, {"role": "tool", "tool_call_id": "a", "content": "1"}
    said = {"role": "assistant", "content": "Done."}
    body = {"messages": [user, tool, tool, user, user, said, tool]}
    fitted = {"messages": [user, tool, tool, said, user, user, said, tool]}
    assert json.loads(limits.fit_bytes(json.dumps(body).encode())) == fitted

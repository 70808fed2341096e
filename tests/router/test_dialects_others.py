"""Responses, embeddings, rerank and infill: facts of requests, and the end of streams."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router.stream_watching import watch_stream

from llmstack.policy.facts import RequestFacts
from llmstack.router.dialects.base import BadRequestError, ParsedRequest, Usage
from llmstack.router.dialects.chat import OpenaiChat
from llmstack.router.dialects.completions import OpenaiCompletion
from llmstack.router.dialects.embeddings import Embeddings
from llmstack.router.dialects.infill import Infill
from llmstack.router.dialects.messages import Messages
from llmstack.router.dialects.rerank import Rerank
from llmstack.router.dialects.responses import Responses
from llmstack.router.dialects.table import dialects, guess_dialect
from llmstack.serving.errors import FailureReport

if TYPE_CHECKING:
    from llmstack.router.dialects.base import Dialect


def parse(dialect: Dialect, **body: Any) -> ParsedRequest:
    return dialect.parse(json.dumps(body).encode())


def responses(*items: dict[str, Any], **more: Any) -> ParsedRequest:
    return parse(Responses(), input=list(items), **more)


def message(role: str, *words: str) -> dict[str, Any]:
    parts = [{"type": "output_text" if role == "assistant" else "input_text", "text": word} for word in words]
    return {"type": "message", "role": role, "content": parts}


CALL = {"type": "function_call", "name": "f", "call_id": "1", "arguments": "a" * 38}
RESULT = {"type": "function_call_output", "call_id": "1", "output": "r" * 398}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 9000}
ENVIRONMENT = message("user", "<environment_context>\n<cwd>/x</cwd>\n</environment_context>")


@pytest.mark.parametrize(
    ("parsed", "facts"),
    [
        (parse(Responses(), input="abcd"), RequestFacts(1, 1, 1, last_words="abcd")),
        (parse(Responses(), input="abcd", instructions="ultra: x"), RequestFacts(3, 3, 1, last_words="abcd")),
        (parse(Responses()), RequestFacts()),
        (responses(message("user", "abcd", "efg")), RequestFacts(2, 2, 1, last_words="abcd\nefg")),
        (responses({"role": "user", "content": "abcd"}), RequestFacts(1, 1, 1, last_words="abcd")),
        (
            responses(message("developer", "[ultra] "), message("user", "abcd")),
            RequestFacts(3, 3, 1, last_words="abcd"),
        ),
        (responses(ENVIRONMENT), RequestFacts(14, 14)),
        (
            responses(message("user", "go"), CALL, RESULT),
            RequestFacts(100, 110, 1, tool_result_pending=True, last_words="go"),
        ),
        (
            responses({**RESULT, "output": [{"type": "input_text", "text": "abcd"}, IMAGE]}),
            RequestFacts(1, 1001, tool_result_pending=True, images=True),
        ),
        (
            responses({"type": "computer_call_output", "output": {"type": "computer_screenshot"}}),
            RequestFacts(0, 1000, tool_result_pending=True, images=True),
        ),
        (responses(RESULT, message("assistant", "ok")), RequestFacts(100, 100)),
        (
            responses({"role": "user", "content": [IMAGE]}),
            RequestFacts(0, 1000, 1, images=True),
        ),
        (responses({"type": "reasoning", "summary": ["s" * 36]}), RequestFacts(0, 10)),
        (responses({"type": "item_reference", "id": "x"}), RequestFacts()),
        (parse(Responses(), input="", tools=["t" * 396]), RequestFacts(0, 100, tools=True)),
        (parse(Responses(), input="", max_output_tokens=7), RequestFacts(output_tokens=7)),
        # each input is processed on its own: the largest counts
        (parse(Embeddings(), input="abcdefgh"), RequestFacts(2, 2, task="embedding")),
        (parse(Embeddings(), input=["abcd", "abcdefgh", ""]), RequestFacts(2, 2, task="embedding")),
        (parse(Embeddings(), input=[1, 2, 3]), RequestFacts(3, 3, task="embedding")),
        (parse(Embeddings(), input=[[1, 2], [3]]), RequestFacts(2, 2, task="embedding")),
        (parse(Embeddings(), content="abcd"), RequestFacts(1, 1, task="embedding")),
        (parse(Embeddings(), input=[]), RequestFacts(task="embedding")),
        (
            parse(Rerank(), query="abcd", documents=["a", {"text": "abcdefgh"}]),
            RequestFacts(3, 3, task="rerank"),
        ),
        (parse(Rerank(), query="abcd", texts=["abcd"]), RequestFacts(2, 2, task="rerank")),
        # code is not searched for triggers
        (
            parse(Infill(), input_prefix="abcd", input_suffix="[ultra] ", prompt="ultra: x", n_predict=9),
            RequestFacts(5, 5, output_tokens=9, task="infill"),
        ),
        (
            parse(Infill(), input_extra=[{"filename": "a.py", "text": "abcd"}]),
            RequestFacts(1, 1, task="infill"),
        ),
        (
            parse(OpenaiCompletion(), prompt="abcd", suffix="efgh"),
            RequestFacts(2, 2, 1, last_words="abcd", task="infill"),
        ),
    ],
)
def test_facts_are_read_from_each_api(parsed: ParsedRequest, facts: RequestFacts) -> None:
    assert parsed.facts == facts


@pytest.mark.parametrize(
    ("parsed", "session"),
    [
        (parse(Responses(), prompt_cache_key="k", conversation="c"), "k"),
        (parse(Responses(), conversation="c"), "c"),
        (parse(Responses(), conversation={"id": "c"}), "c"),
        (parse(Responses()), None),
        (parse(OpenaiChat(), messages=[], prompt_cache_key="k"), "k"),
        (parse(OpenaiChat(), messages=[], prompt_cache_key=""), None),
        (parse(OpenaiChat(), messages=[], user="someone"), None),
    ],
)
def test_the_session_is_read_from_the_body(parsed: ParsedRequest, session: str | None) -> None:
    assert parsed.session_name == session


def test_the_opening_stays_the_same_in_later_turns() -> None:
    start = (message("developer", "You are Codex."), ENVIRONMENT, message("user", "hi"))
    assert responses(*start).opening == responses(*start, CALL, RESULT, message("user", "more")).opening
    chat: list[dict[str, Any]] = [
        {"role": "system", "content": "You are opencode.\n<env>\n  Today's date: Fri Nov 20 2026\n</env>"},
        {"role": "user", "content": "hi"},
    ]
    later = json.loads(json.dumps(chat).replace("Fri Nov 20", "Sat Nov 21"))
    later += [{"role": "assistant", "content": "x"}, {"role": "user", "content": "more"}]
    first = parse(OpenaiChat(), messages=chat).opening
    assert first
    assert first == parse(OpenaiChat(), messages=later).opening
    assert first != parse(OpenaiChat(), messages=chat[1:]).opening


CREATED = (
    b'event: response.created\ndata: {"type":"response.created","response":{"status":"in_progress"}}\n\n'
)
TEXT = b'data: {"type":"response.output_text.delta","delta":"\\"type\\":\\"response.completed\\""}\n\n'
COMPLETED = (
    b'event: response.completed\ndata: {"type":"response.completed","response":{"output":[{"text":"'
    + b"x" * 5000
    + b'"}],"usage":{"input_tokens":9,"output_tokens":2,"input_tokens_details":{"cached_tokens":4}}}}\n\n'
)
FAILED = b'data: {"type": "response.failed","response":{"error":{"code":"x"}}}\r\n\r\n'
FILL = b'data: {"content":"a","stop":false}\n\n'
FILLED = b'data: {"content":"","stop":true,"timings":{"cache_n":1,"prompt_n":2,"predicted_n":3}}\n\n'
CHUNK = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}],"usage":null}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
COUNTED = (
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\n'
)


@pytest.mark.parametrize(
    ("dialect", "stream", "usage", "complete"),
    [
        (Responses(), CREATED + TEXT + COMPLETED, Usage(9, 2, 4), True),
        (Responses(), CREATED + TEXT + COMPLETED[:-40], None, False),
        (Responses(), CREATED + TEXT + COMPLETED[:-1], None, False),
        (Responses(), CREATED + TEXT, None, False),
        (Responses(), CREATED + FAILED, None, True),
        (Infill(), FILL + FILLED, Usage(3, 3, 1), True),
        (Infill(), FILL, None, False),
        (OpenaiChat(), CHUNK + FINISH + COUNTED, Usage(9, 2, 4), True),
        (OpenaiChat(), CHUNK + FINISH[:-1], None, False),
        (OpenaiChat(), CHUNK, None, False),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 50, 100_000])
def test_the_end_of_a_stream_is_recognised_in_each_api(
    dialect: Dialect, stream: bytes, usage: Usage | None, size: int, *, complete: bool
) -> None:
    passed_on, watch = watch_stream(dialect, stream, size)
    whole = b"".join(re.findall(rb".+?\n\r?\n", stream, re.DOTALL))
    assert (passed_on, watch.complete, watch.usage) == (whole, complete, usage)


def test_a_failed_response_ends_with_both_events_that_clients_expect() -> None:
    events = Responses().error_event(FailureReport(502, "stream_cut", "why", "engine")).decode()
    failed, error = (event.split("\n")[1].removeprefix("data: ") for event in events.split("\n\n")[:2])
    response = json.loads(failed)["response"]
    assert (response["status"], response["error"]["message"]) == ("failed", "why")
    assert json.loads(error)["error"]["origin"] == "engine"
    assert events.startswith("event: response.failed\n")


def test_usage_is_read_from_complete_responses() -> None:
    assert Embeddings().usage(b'{"usage":{"prompt_tokens":7,"total_tokens":7}}') == Usage(7, 0)
    assert Responses().usage(b'{"usage":{"input_tokens":3,"output_tokens":1}}') == Usage(3, 1)
    assert Infill().usage(b'{"timings":{"cache_n":1,"prompt_n":2,"predicted_n":3}}') == Usage(3, 3, 1)
    assert Rerank().usage(b'{"usage":"none"}') is None


@pytest.mark.parametrize(
    ("fields", "usage"),
    [
        ('"total_tokens":12', Usage(7, 5)),  # Google counts thoughts only in the total
        ('"total_tokens":3', Usage(7, 2)),
        ('"cost":0.25', Usage(7, 2, cost_usd=0.25)),  # LiteLLM
        ('"cost":"0.25"', Usage(7, 2, cost_usd=0.25)),
        *((f'"cost":{cost}', Usage(7, 2)) for cost in ("null", "-1", '"inf"', "{}", '"x"', "1" * 400)),
    ],
)
def test_usage_includes_hidden_tokens_and_costs(fields: str, usage: Usage) -> None:
    body = f'{{"usage":{{"prompt_tokens":7,"completion_tokens":2,{fields}}}}}'.encode()
    assert OpenaiChat().usage(body) == usage
    watch = OpenaiChat().watch()
    watch.feed(b"data: " + body + b"\n\n")
    assert watch.usage == usage


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"messages": []}, OpenaiChat),
        ({"messages": [], "system": "x"}, Messages),
        ({"prompt": "x"}, OpenaiCompletion),
        ({"input": "x"}, Responses),
        ({"query": "x", "documents": []}, Rerank),
        ({"input_prefix": "x"}, Infill),
    ],
)
def test_the_api_is_guessed_from_a_body_without_a_path(fields: dict[str, Any], kind: type) -> None:
    assert type(guess_dialect(fields)) is kind


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    *("model", "messages", "input", "instructions", "system", "stream", "tools", "role", "content", "type"),
    *("text", "output", "arguments", "source", "query", "documents", "input_prefix", "metadata", "user_id"),
)
LIKELY = st.recursive(
    ANY | st.sampled_from(["user", "message", "tool_result", "image", "input_text", "function_call_output"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)


@given(LIKELY.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_any_body_is_parsed_or_refused(body: bytes) -> None:
    for dialect in dialects().values():
        try:
            parsed = dialect.parse(body)
        except BadRequestError:
            continue
        assert parsed.facts.context_tokens >= parsed.facts.conversation_tokens >= 0


@given(st.lists(st.binary(max_size=40) | st.sampled_from([CHUNK, COMPLETED[:90], FINISH, COUNTED[:70]])))
def test_any_stream_is_passed_on_up_to_its_closing_event(chunks: list[bytes]) -> None:
    for dialect in (OpenaiChat(), Responses(), Messages(), Infill()):
        for size in (1, 30):
            passed_on, _ = watch_stream(dialect, b"".join(chunks), size)
            assert b"".join(chunks).startswith(passed_on)


def test_nothing_is_passed_on_after_an_early_closing_mark() -> None:
    mark, token = b"data: [DONE]\n\n", b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    passed, watch = watch_stream(OpenaiChat(), mark + token, len(mark))
    assert (passed, watch.complete) == (b"", False)


@pytest.mark.parametrize("path", [path for path, dialect in dialects().items() if dialect.accepts_slot])
def test_a_slot_chosen_by_the_client_is_recognised(path: str) -> None:
    dialect = dialects()[path]
    body = '{"messages":[],"prompt":"","input":"","x":{"id_slot":1}%s}'
    assert not dialect.parse((body % "").encode()).has_slot
    assert dialect.parse((body % ',"id_slot":null').encode()).has_slot
    assert dialect.parse((body % ',"\\u0069d_slot":2').encode()).has_slot

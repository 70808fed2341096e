"""The cache of parsed conversations changes no result, only the time that parsing takes."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.router.dialects.base import BadRequestError
from llmstack.router.dialects.chat import OpenaiChat
from llmstack.router.dialects.conversation_cache import LATEST, MAX_CACHED_BYTES, MIN_BYTES
from llmstack.router.dialects.messages import Messages
from llmstack.router.dialects.responses import Responses

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.router.dialects.base import ParsedRequest

    Api = type[OpenaiChat | Messages | Responses]

LONG = "x = [1]  # \u00e9\n" * (MIN_BYTES // 12)
TEXTS = st.text(
    st.sampled_from('ab "\\/\n\t\0\x7f<>{}[]:,\u00e9\u65e5\U0001f600'), max_size=12
) | st.sampled_from(
    ["ultra: go", "<system-reminder>x</system-reminder>", '{"role":"user"},', '},{"role":"user"', "2026\n"]
)
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
CALLS = [{"id": "1", "function": {"name": "f", "arguments": '[{"role":"user"}]'}}]


def _message(role: str, *content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content[0] if len(content) == 1 else list(content), **more}


def _text(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return TEXTS.map(lambda text: {"type": kind, "text": text})


CHAT = st.one_of(
    st.builds(_message, st.sampled_from(["user", "system", "assistant", "tool"]), TEXTS | st.none()),
    st.builds(_message, st.just("user"), _text("text"), st.just(IMAGE)),
    st.builds(_message, st.just("assistant"), TEXTS, tool_calls=st.just(CALLS)),
)
RESULT = st.builds(lambda text: {"type": "tool_result", "tool_use_id": "1", "content": text}, TEXTS)
USE = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": [{"role": "user"}, {"role": "user"}]}}
MESSAGES = st.one_of(
    st.builds(_message, st.sampled_from(["user", "assistant"]), TEXTS),
    st.builds(_message, st.just("user"), RESULT, _text("text")),
    st.builds(_message, st.just("assistant"), _text("text"), st.just(USE)),
)
ITEMS = st.one_of(
    st.builds(_message, st.sampled_from(["user", "developer", "assistant"]), TEXTS),
    st.builds(
        lambda message: {"type": "message", **message},
        st.builds(_message, st.just("user"), _text("a"), _text("b")),
    ),
    st.just({"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"}),
    st.builds(lambda text: {"type": "function_call_output", "call_id": "1", "output": text}, TEXTS),
    st.just({"type": "web_search_call", "status": "completed"}),
)
TOOLS = st.none() | st.just([{"type": "function", "examples": [{"role": "user"}, {"role": "user"}]}])


def _parser_that_has_read(api: Api, body: bytes) -> Callable[[bytes], ParsedRequest]:
    """Return the parser of a dialect that has parsed this body."""
    dialect = api()
    dialect.parse(body)
    return dialect.parse


def _outcome(parse: Callable[[bytes], ParsedRequest], body: bytes) -> ParsedRequest | str:
    try:
        return parse(body)
    except BadRequestError as error:
        return str(error)


@pytest.mark.parametrize(
    ("api", "member", "top", "message_strategy"),
    [
        (OpenaiChat, "messages", None, CHAT),
        (Messages, "messages", "system", MESSAGES),
        (Responses, "input", "instructions", ITEMS),
    ],
)
@given(data=st.data())
def test_a_cached_conversation_parses_like_a_new_one(
    api: Api,
    member: str,
    top: str | None,
    message_strategy: st.SearchStrategy[dict[str, Any]],
    data: st.DataObject,
) -> None:
    messages = [
        _message("user", data.draw(TEXTS)),
        _message("assistant", LONG),
        *data.draw(st.lists(message_strategy, max_size=6)),
    ]
    ascii_only = data.draw(st.booleans())
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    tools, system, first = data.draw(TOOLS), data.draw(TEXTS), data.draw(st.booleans())
    parse = api().parse
    for _ in range(3):
        others = {"model": "auto", "tools": tools, **({top: system} if top else {})}
        document = {**others, member: messages} if first else {member: messages, **others}
        body = json.dumps(document, ensure_ascii=ascii_only, separators=separators).encode()
        assert _outcome(parse, body) == _outcome(api().parse, body)
        messages = [*messages, *data.draw(st.lists(message_strategy, max_size=3))]


def _chat(*messages: dict[str, Any]) -> bytes:
    return json.dumps({"model": "auto", "messages": messages, "stream": True}).encode()


TURNS = [_message("user", f"{number} {LONG}") for number in range(LATEST + 2)]


@pytest.mark.parametrize(
    "later",
    [
        _chat(*TURNS, _message("user", "ultra: x")),
        _chat(*TURNS[:-1]),
        _chat(*TURNS[:1]),
        # changed before the latest messages, among them, and entirely
        _chat(TURNS[1], *TURNS[1:]),
        _chat(*TURNS[:-1], _message("user", "x")),
        _chat(),
        # of two members with the same name, the last counts
        _chat(*TURNS)[:-1] + b',"messages":[{"role":"user","content":"x"}]}',
        _chat(*TURNS)[:-1] + b',"messages":[],"model":"plan"}',
        # an error names its position in the whole body
        _chat(*TURNS, {"role": 5}),
        _chat(*TURNS)[:-20],
        _chat(*TURNS) + b"x",
        _chat(*TURNS).replace(b'"stream": true', b'"stream": 5'),
        _chat(*TURNS[:-1], _message("user", "?")).replace(b"?", b"\xff"),
        _chat(*TURNS[:-1], _message("user", "?")).replace(b'"?"', b'"\\ud800"'),
        _chat(*TURNS[:-1], _message("user", "?")).replace(b'"?"', b"[" * 5000 + b"]" * 5000),
    ],
)
def test_any_later_body_parses_like_without_the_cache(later: bytes) -> None:
    parse = _parser_that_has_read(OpenaiChat, _chat(*TURNS))
    assert _outcome(parse, later) == _outcome(OpenaiChat().parse, later)
    assert parse(_chat(*TURNS)) == OpenaiChat().parse(_chat(*TURNS)), "the first body still parses the same"


@pytest.mark.parametrize(
    "before",
    [b'{"x\\"messages":[', b'{"a":"\\"messages\\":[","messages":[', b'{"messages":[],"messages" : [ '],
)
def test_text_that_looks_like_messages_is_not_taken_for_messages(before: bytes) -> None:
    body = (
        before + b",".join(json.dumps(turn).encode() for turn in TURNS) + b'],"messages":[{"role":"user"}]}'
    )
    for sent in (body, body.replace(b',"messages":[{"role":"user"}]', b"")):
        parse = OpenaiChat().parse
        outcome = _outcome(OpenaiChat().parse, sent)
        assert [_outcome(parse, sent), _outcome(parse, sent)] == [outcome, outcome]


@pytest.mark.parametrize("count", range(LATEST + 3))
def test_objects_with_a_role_inside_a_message_are_not_taken_for_messages(count: int) -> None:
    use = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": [{"role": "user"}] * count}}
    body = _chat(*TURNS, _message("assistant", [use]), _message("user", "x"))
    parse = Messages().parse
    text = sum(len(turn["content"]) for turn in TURNS) + 1
    expected = (text // 4, (text + len(json.dumps(use["input"]))) // 4)
    for _ in range(2):
        facts = parse(body).facts
        assert (facts.conversation_tokens, facts.context_tokens) == expected


@pytest.mark.parametrize("api", [OpenaiChat, Messages])
def test_the_next_turn_parses_in_a_fraction_of_the_time(api: Api) -> None:
    turns = [_message("user", "print(1)\n" * 100) for _ in range(1000)]
    bodies = [_chat(*turns[: 980 + 2 * number]) for number in range(10)]

    def seconds(parse: Callable[[bytes], ParsedRequest], body: bytes) -> float:
        started = time.process_time()
        parse(body)
        return time.process_time() - started

    parse = _parser_that_has_read(api, bodies[0])
    assert (
        min(seconds(parse, body) for body in bodies) < min(seconds(api().parse, body) for body in bodies) / 3
    )


def test_the_cache_has_a_bounded_size() -> None:
    parse = OpenaiChat().parse
    tracemalloc.start()
    try:
        for number in range(40):
            parse(_chat(*(_message("user", f"{number} {LONG * 2}") for _ in range(LATEST + 2))))
        cached_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert MAX_CACHED_BYTES / 2 < cached_bytes < MAX_CACHED_BYTES * 1.2

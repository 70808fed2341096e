from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router.stream_watching import watch_stream

from llmstack.policy.facts import RequestFacts
from llmstack.router.dialects.base import BadRequestError, ParsedRequest
from llmstack.router.dialects.chat import OpenaiChat
from llmstack.router.dialects.completions import OpenaiCompletion
from llmstack.router.dialects.openai import Untranslated
from llmstack.serving.errors import FailureReport


def chat(*messages: dict[str, Any], **more: Any) -> ParsedRequest:
    return OpenaiChat().parse(json.dumps({"messages": messages, **more}).encode())


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "x" * 400}}
REMINDER = "<system-reminder>[ultra]</system-reminder>"


@pytest.mark.parametrize(
    ("parsed", "facts"),
    [
        (chat(), RequestFacts()),
        (chat(user("hello hello!")), RequestFacts(3, 3, 1, last_words="hello hello!")),
        (chat(user(None)), RequestFacts()),
        (
            chat(user([{"type": "text", "text": "abcd"}, {"type": "text", "text": "efg"}])),
            RequestFacts(2, 2, 1, last_words="abcd\nefg"),
        ),
        # an image counts as context, not as conversation; without text it is still a turn of the user
        (
            chat(user([{"type": "text", "text": "look"}, IMAGE])),
            RequestFacts(1, 1001, 1, last_words="look", images=True),
        ),
        (chat(user([IMAGE, IMAGE])), RequestFacts(0, 2000, 1, images=True)),
        # system prompts are conversation, but never the user's words
        (
            chat({"role": "system", "content": "[ultra] " * 10}, user("hi")),
            RequestFacts(20, 20, 1, last_words="hi"),
        ),
        (chat({"role": "developer", "content": "ultra: abc"}), RequestFacts(2, 2)),
        # harness text is conversation, but neither words nor a turn of the user
        (chat(user("hi"), user(REMINDER)), RequestFacts(11, 11, 1, last_words="hi")),
        (chat(user(f"{REMINDER}\nhi")), RequestFacts(11, 11, 1, last_words="hi")),
        # tool results are not turns, and do not change the last words
        (
            chat(
                user("[ultra] go"),
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "1", "content": "r" * 400},
            ),
            RequestFacts(
                102,
                102 + (len(json.dumps([CALL])) + 2) // 4,
                1,
                tool_result_pending=True,
                last_words="[ultra] go",
            ),
        ),
        (
            chat(user("a"), {"role": "function", "name": "f", "content": "b"}),
            RequestFacts(0, 0, 1, tool_result_pending=True, last_words="a"),
        ),
        (
            chat(user("one"), {"role": "assistant", "content": "ok"}, user("two")),
            RequestFacts(2, 2, 2, last_words="two"),
        ),
        # other parts of the context
        (chat(user("abcd"), tools=["t" * 396]), RequestFacts(1, 101, 1, last_words="abcd", tools=True)),
        (chat(user("abcd"), functions=["t" * 396]), RequestFacts(1, 101, 1, last_words="abcd", tools=True)),
        (
            chat(user("abcd"), {"role": "assistant", "content": None, "reasoning_content": "r" * 398}),
            RequestFacts(1, 101, 1, last_words="abcd"),
        ),
        (
            chat({"role": "assistant", "content": [{"type": "refusal", "refusal": "no!!"}]}),
            RequestFacts(1, 1),
        ),
        (chat(user("abcd"), max_tokens=7), RequestFacts(1, 1, 1, last_words="abcd", output_tokens=7)),
        (
            chat(user("abcd"), max_tokens=7, max_completion_tokens=9),
            RequestFacts(1, 1, 1, last_words="abcd", output_tokens=9),
        ),
        (chat(user("abcd"), max_tokens=-1), RequestFacts(1, 1, 1, last_words="abcd")),
    ],
)
def test_facts_are_read_from_chat_requests(parsed: ParsedRequest, facts: RequestFacts) -> None:
    assert parsed.facts == facts


@pytest.mark.parametrize(
    ("prompt", "size", "words"),
    [
        ("ultra: abc", 2, "ultra: abc"),
        (["abcd", "efgh"], 2, "efgh"),
        ([1, 2, 3], 3, ""),
        ([[1, 2], [3]], 3, ""),
        ([], 0, ""),
        (None, 0, ""),
    ],
)
def test_facts_are_read_from_completion_requests(prompt: Any, size: int, words: str) -> None:
    parsed = OpenaiCompletion().parse(
        json.dumps({"prompt": prompt, "max_tokens": 5, "stream": True}).encode()
    )
    facts = RequestFacts(size, size, 1, last_words=words, output_tokens=5)
    assert parsed == ParsedRequest(None, stream=True, facts=facts)


@pytest.mark.parametrize(
    ("more", "model", "stream"),
    [
        ({}, None, False),
        ({"model": None, "stream": None}, None, False),
        ({"model": "", "stream": False}, "", False),
        ({"model": "agent", "stream": True}, "agent", True),
    ],
)
def test_model_and_stream_are_read_from_the_body(
    more: dict[str, Any], model: str | None, *, stream: bool
) -> None:
    parsed = chat(**more)
    assert (parsed.model, parsed.stream) == (model, stream)


BAD = [
    b"",
    b" ",
    b"{",
    b"[]",
    b"null",
    b"5",
    b'"text"',
    b"NaN",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b'{"model":5}',
    b'{"model":["auto"]}',
    b'{"stream":"yes"}',
    b'{"model":"\\ud800"}',
    b'{"model":"\xed\xa0\x80"}',
    b'{"x":NaN}',
    b'{"x":Infinity}',
    b'{"x":01}',
    b'{"a":1,}',
    b"{'a':1}",
    b'{"x":' + b"[" * 100_000,
    b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"x":1} trailing',
]
BAD_CHAT = [
    b"{}",
    b'{"messages":null}',
    b'{"messages":{}}',
    b'{"messages":["hi"]}',
    b'{"messages":[{"role":5}]}',
    b'{"messages":[{"role":"user","content":5}]}',
    b'{"messages":[{"role":"user","content":["hi"]}]}',
    b'{"messages":[{"role":"user","content":[{"type":"text","text":5}]}]}',
    b'{"messages":[{"role":"user","content":"\\ud83d"}]}',
    b'{"messages":[],"max_tokens":"5"}',
    b'{"messages":[],"max_tokens":true}',
    b'{"messages":[],"max_tokens":1e400}',
    b'{"messages":[],"max_tokens":' + b"9" * 5000 + b"}",
    b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
]


@pytest.mark.parametrize(
    "body", [body.replace(b"{", b'{"messages":[],', 1) for body in BAD[-12:-1]] + BAD + BAD_CHAT
)
def test_a_bad_chat_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError) as raised:
        OpenaiChat().parse(body)
    assert str(raised.value)


@pytest.mark.parametrize(
    "body", [*BAD, b'{"prompt":5}', b'{"prompt":{}}', b'{"suffix":5}', b'{"max_tokens":[]}']
)
def test_a_bad_completion_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError):
        OpenaiCompletion().parse(body)


def test_errors_name_the_path_in_the_body() -> None:
    with pytest.raises(BadRequestError, match=r"Expected `str`, got `int` - at `\$.messages\[0\].role`"):
        OpenaiChat().parse(b'{"messages":[{"role":5}]}')


def test_huge_numbers_are_accepted() -> None:
    assert chat(max_tokens=10**30).facts.output_tokens == 10**30


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "model",
        "messages",
        "prompt",
        "stream",
        "tools",
        "max_tokens",
        "role",
        "content",
        "type",
        "text",
        "tool_calls",
    ]
)
LIKELY = st.recursive(
    ANY | st.sampled_from(["user", "tool", "text", "image_url"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=15,
)


@given(LIKELY.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_any_body_is_parsed_or_refused(body: bytes) -> None:
    for dialect in (OpenaiChat(), OpenaiCompletion(), Untranslated()):
        try:
            parsed = dialect.parse(body)
        except BadRequestError:
            continue
        assert parsed.facts.context_tokens >= parsed.facts.conversation_tokens >= 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (502, "server_error"),
        (503, "server_error"),
    ],
)
def test_errors_have_openais_format(status: int, kind: str) -> None:
    error = {"message": "why \ud800", "type": kind, "param": None, "code": "c", "origin": "engine"}
    report = FailureReport(status, "c", "why \ud800", "engine")
    assert json.loads(OpenaiChat().error(report)) == {"error": error}
    shown = OpenaiChat().error_event(report)
    assert shown.startswith(b"data: {")
    assert shown.endswith(b"}\n\n")
    assert shown.count(b"\n") == 2


STOP = b'data: {"choices":[{"finish_reason": "stop"}]}\n\n'
OPEN = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("stream", "passed", "complete"),
    [
        (OPEN + STOP + DONE, OPEN + STOP + DONE, True),
        (OPEN + STOP, OPEN + STOP, True),
        (OPEN + DONE, OPEN, False),
        (DONE, b"", False),
        (OPEN + b"data:[DONE]\r\n\r\n", OPEN, False),
        (OPEN, OPEN, False),
        (b"", b"", False),
        (
            OPEN + b'data: {"error": {"message": "x"}}\n\n' + DONE,
            OPEN + b'data: {"error": {"message": "x"}}\n\n' + DONE,
            True,
        ),
        (OPEN.replace(b'"a"', b'"data: [DONE]"'), OPEN.replace(b'"a"', b'"data: [DONE]"'), False),
        (
            OPEN.replace(b'"a"', b'"\\"finish_reason\\":\\"stop\\""'),
            OPEN.replace(b'"a"', b'"\\"finish_reason\\":\\"stop\\""'),
            False,
        ),
        (OPEN.replace(b"{", b'{"error":null,', 1), OPEN.replace(b"{", b'{"error":null,', 1), False),
    ],
)
def test_the_end_of_a_stream_is_recognised(stream: bytes, passed: bytes, *, complete: bool) -> None:
    for size in (1, 2, 7, 50, 10_000):
        passed_on, watch = watch_stream(OpenaiChat(), stream, size)
        assert (passed_on, watch.complete) == (passed, complete)


def test_streams_of_unknown_apis_are_not_checked() -> None:
    watch = Untranslated().watch()
    assert (watch.feed(DONE), watch.complete) == (DONE, True)


@pytest.mark.parametrize("body", [b"", b"--boundary\r\n", b"[1]", b"\xff\xfe"])
def test_a_body_that_is_no_object_names_no_model(body: bytes) -> None:
    assert Untranslated().parse(body).model is None

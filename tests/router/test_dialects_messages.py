"""Anthropic's messages: facts of requests, the format of errors, the end of streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from router.stream_watching import watch_stream

from llmstack.policy.facts import RequestFacts
from llmstack.router.dialects.base import BadRequestError, ParsedRequest, Usage
from llmstack.router.dialects.messages import CountTokens, Messages
from llmstack.serving.errors import FailureReport


def messages(*items: dict[str, Any], **more: Any) -> ParsedRequest:
    return Messages().parse(json.dumps({"messages": items, **more}).encode())


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 40_000}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 9000}}
PLAIN = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abcd"}}
CALL = {"type": "tool_use", "id": "1", "name": "f", "input": {"x": "y" * 90}}
CALL_SIZE = len(json.dumps(CALL["input"]))
REMINDER = text("<system-reminder>[ultra] 2026-11-20</system-reminder>")


def result(content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "1", "content": content}


@pytest.mark.parametrize(
    ("parsed", "facts"),
    [
        (messages(), RequestFacts()),
        (messages({"role": "user", "content": "abcd"}), RequestFacts(1, 1, 1, last_words="abcd")),
        (messages(user(text("abcd"), text("efg"))), RequestFacts(2, 2, 1, last_words="abcd\nefg")),
        # the system prompt is conversation, but never the user's words, wherever it is
        (messages(user(text("hi")), system="[ultra] " * 10), RequestFacts(20, 20, 1, last_words="hi")),
        (messages(user(text("hi")), system=[text("ultra: abc")]), RequestFacts(3, 3, 1, last_words="hi")),
        (
            messages(user(text("hi")), {"role": "system", "content": "[ultra] [ultra]"}),
            RequestFacts(4, 4, 1, last_words="hi"),
        ),
        # so is the text that a harness adds to the user's message
        (messages(user(REMINDER, text("hi"))), RequestFacts(14, 14, 1, last_words="hi")),
        (messages(user(text("hi")), user(REMINDER)), RequestFacts(13, 13, 1, last_words="hi")),
        # tool results
        (
            messages(user(text("go")), {"role": "assistant", "content": [CALL]}, user(result("r" * 398))),
            RequestFacts(100, (400 + CALL_SIZE) // 4, 1, tool_result_pending=True, last_words="go"),
        ),
        (
            messages(user(text("go")), user(result([text("r" * 8), IMAGE]))),
            RequestFacts(2, 1002, 1, tool_result_pending=True, last_words="go", images=True),
        ),
        (messages(user(result(None))), RequestFacts(tool_result_pending=True)),
        # a system message after it changes nothing; text of the user with it is a turn
        (
            messages(user(result("abcd"), REMINDER), {"role": "system", "content": "abcd"}),
            RequestFacts(15, 15, tool_result_pending=True),
        ),
        (
            messages(user(result("abcd"), text("stop"))),
            RequestFacts(2, 2, 1, tool_result_pending=True, last_words="stop"),
        ),
        (
            messages(user(text("a")), user(result("b")), {"role": "assistant", "content": "c"}),
            RequestFacts(0, 0, 1, last_words="a"),
        ),
        # images and documents
        (messages(user(IMAGE)), RequestFacts(0, 1000, 1, images=True)),
        (messages(user(PDF, text("abcd"))), RequestFacts(1, 1001, 1, last_words="abcd")),
        (messages(user(PLAIN)), RequestFacts(1, 1, 1, last_words="abcd")),
        # other parts of the context
        (
            messages({"role": "assistant", "content": [{"type": "thinking", "thinking": "t" * 398}]}),
            RequestFacts(0, 100),
        ),
        (
            messages(user(text("abcd")), tools=["t" * 396]),
            RequestFacts(1, 101, 1, last_words="abcd", tools=True),
        ),
        (messages(tools=[]), RequestFacts()),
        (messages(max_tokens=7), RequestFacts(output_tokens=7)),
    ],
)
def test_facts_are_read_from_messages_requests(parsed: ParsedRequest, facts: RequestFacts) -> None:
    assert parsed.facts == facts


@pytest.mark.parametrize(
    ("user_id", "session"),
    [
        ('{"device_id":"6b","account_uuid":"","session_id":"88acc486"}', "88acc486"),
        ("user_6baf_account__session_88acc486", "88acc486"),
        ("someone", None),
        ("{not json", None),
        ('{"session_id":5}', None),
        ("", None),
    ],
)
def test_the_session_is_read_from_claude_codes_user_id(user_id: str, session: str | None) -> None:
    assert messages(metadata={"user_id": user_id}).session_name == session


def test_the_opening_stays_the_same_in_later_turns() -> None:
    system = [text("x-anthropic-billing-header: cch=1a2b3;"), text("You are an agent.\nToday: 2026-11-20.")]
    first = messages(user(REMINDER, text("hi")), system=system)
    tomorrow = json.loads(json.dumps(system).replace("1a2b3", "9f9f9").replace("11-20", "11-21"))
    later = messages(
        user(text("<system-reminder>another</system-reminder>"), text("hi")),
        {"role": "assistant", "content": "hello"},
        user(text("and now?")),
        {"role": "system", "content": "agents: 3"},
        system=tomorrow,
    )
    assert first.opening == later.opening
    others = [
        messages(user(text("ho")), system=system),
        messages(user(text("hi")), system="You are another."),
        messages(user(text("hi"))),
    ]
    assert len({first.opening, *(other.opening for other in others)}) == 4
    assert messages().opening == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"messages":"hi"}',
        b'{"messages":[{"role":"user","content":5}]}',
        b'{"messages":[{"role":"user","content":[{"type":"tool_result","content":5}]}]}',
        b'{"messages":[],"system":{}}',
        b'{"messages":[],"max_tokens":"5"}',
        b'{"messages":[],"metadata":"x"}',
    ],
)
def test_a_bad_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError):
        Messages().parse(body)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_errors_have_anthropics_format(status: int, kind: str) -> None:
    report = FailureReport(status, "c", "why", "engine")
    error = {"type": kind, "message": "why", "code": "c", "origin": "engine"}
    shown = {"type": "error", "error": error, "request_id": None}
    assert json.loads(Messages().error(report)) == shown
    assert Messages().error_event(report) == b"event: error\ndata: " + Messages().error(report) + b"\n\n"


def test_an_overflow_has_the_text_that_makes_claude_code_compact() -> None:
    report = FailureReport(400, "context_length_exceeded", "too much", needed=9, window=5)
    error = json.loads(Messages().error(report))["error"]
    assert error["message"] == "prompt is too long: 9 tokens > 5 maximum: too much"


LLAMA = {
    "error": {
        "code": 400,
        "message": "request (9 tokens) exceeds the available context size (5 tokens)",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 9,
        "n_ctx": 5,
    }
}
OURS = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (
            400,
            json.dumps(LLAMA),
            "invalid_request_error",
            "prompt is too long: 9 tokens > 5 maximum: request",
        ),
        (500, '{"error":{"code":500,"message":"boom","type":"server_error"}}', "api_error", "boom"),
        (529, json.dumps(OURS), "overloaded_error", "Overloaded"),
        (502, "<html>bad gateway</html>", "api_error", "<html>bad gateway</html>"),
    ],
)
def test_errors_of_a_server_are_converted_to_anthropics_format(
    status: int, body: str, kind: str, message: str
) -> None:
    document = json.loads(Messages().server_error(status, body.encode(), "engine"))
    assert document["type"] == "error"
    assert document["error"]["type"] == kind
    assert document["error"]["message"].startswith(message)


START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"role":"assistant","usage":'
    b'{"cache_read_input_tokens":4,"input_tokens":7,"output_tokens":0}}}\n\n'
)
DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"type\\":'
    b'\\"message_stop\\""}}\n\n'
)
LAST = b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":24}}\n\n'
ROUNDS = (
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":24,"iterations":[{"type":'
    b'"message","output_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":3}}]}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
ERROR = b'event: error\ndata: {"type": "error","error":{"type":"api_error","message":"x"}}\n\n'


@pytest.mark.parametrize(
    ("stream", "usage", "complete"),
    [
        (START + DELTA + LAST + STOP, Usage(11, 24, 4), True),
        (START + DELTA + ROUNDS + STOP, Usage(11, 24, 4), True),
        (START + DELTA + LAST + STOP[:-1], Usage(11, 24, 4), False),
        (START + DELTA + LAST, Usage(11, 24, 4), False),
        (START + DELTA + ERROR, Usage(11, 0, 4), True),
        (START + DELTA, Usage(11, 0, 4), False),
        (b"", None, False),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_the_end_of_a_stream_is_recognised(
    stream: bytes, usage: Usage | None, size: int, *, complete: bool
) -> None:
    passed_on, watch = watch_stream(Messages(), stream, size)
    whole = stream[: stream.rindex(b"\n\n") + 2] if stream else b""
    assert (passed_on, watch.complete, watch.usage) == (whole, complete, usage)


def test_usage_is_read_from_complete_responses() -> None:
    response = b'{"type":"message","usage":{"input_tokens":3,"cache_read_input_tokens":5,"output_tokens":2}}'
    assert Messages().usage(response) == Usage(8, 2, 5)
    assert Messages().usage(b'{"type":"message"}') is None
    assert CountTokens().usage(b'{"input_tokens":779}') == Usage(779, 0)
    assert CountTokens().usage(b"<html>") is None

"""Error responses of providers in all their formats, and results of MCP tools as chat completions."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from llmstack.providers import Result, TokensUsed
from llmstack.providers.errors import RejectedError
from llmstack.providers.mcp.chat import parse_chat_request, write_chat_completion, write_chat_events
from llmstack.providers.translation.failures import Failure, parse_failure

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ANTHROPIC = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
OPENAI = b'{"error":{"message":"No.","type":"requests","param":null,"code":"insufficient_quota"}}'
GOOGLE = b'[{"error":{"code":400,"message":"Bad.","status":"INVALID_ARGUMENT"}}]'
GOOGLE_RATE_LIMIT = (
    b'[{"error":{"code":429,"message":"Quota.","status":"RESOURCE_EXHAUSTED","details":[5,'
    b'{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"45.8s"}]}}]'
)
MISTRAL = (
    b'{"object":"error","message":{"detail":[{"msg":"Extra"}]},"type":"invalid_request_error","code":null}'
)
OLLAMA = b'{"error":"model \\"x\\" not found"}'


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected"),
    [
        (529, ANTHROPIC, {"retry-after": "7"}, Failure(503, "overloaded_error", "Overloaded", 7.0)),
        (
            429,
            OPENAI,
            {"retry-after-ms": "20", "retry-after": "1"},
            Failure(429, "insufficient_quota", "No.", 0.02),
        ),
        (400, GOOGLE, {}, Failure(400, "INVALID_ARGUMENT", "Bad.")),
        (429, GOOGLE_RATE_LIMIT, {}, Failure(429, "RESOURCE_EXHAUSTED", "Quota.", 45.8)),
        (429, GOOGLE_RATE_LIMIT, {"retry-after": "7"}, Failure(429, "RESOURCE_EXHAUSTED", "Quota.", 7.0)),
        (422, MISTRAL, {}, Failure(422, "invalid_request_error", '[{"msg": "Extra"}]')),
        (404, OLLAMA, {}, Failure(404, "", 'model "x" not found')),
        (401, b'{"message":"Unauthorized"}', {}, Failure(401, "", "Unauthorized")),
        (401, b'{"error":{"message":"bad key sk-1234"}}', {}, Failure(401, "", "bad key …")),
        (502, b"<html>Bad Gateway", {}, Failure(502, "", "<html>Bad Gateway")),
        (503, b"", {"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, Failure(503, "", "HTTP 503", 30.0)),
        (503, b"", {"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, Failure(503, "", "HTTP 503", 0.0)),
        (503, b"", {"retry-after": "soon"}, Failure(503, "", "HTTP 503")),
        (500, b'"oh"', {}, Failure(500, "", "oh")),
        (500, b'{"error":null}', {}, Failure(500, "", '{"error": null}')),
    ],
)
def test_error_responses_are_parsed(
    status: int, body: bytes, headers: dict[str, str], expected: Failure
) -> None:
    assert parse_failure(status, body, headers, secrets=("sk-1234",), now=NOW) == expected


def test_a_result_is_written_as_a_chat_completion() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 9, "stream": True}
    request, stream = parse_chat_request(json.dumps(body).encode())
    assert (list(request.messages), request.max_tokens, stream) == (body["messages"], 9, True)
    result = Result("hällo", "m", "mcp", TokensUsed(3, 2), "length")
    completion = json.loads(write_chat_completion(result, now=1, completion_id="7"))
    assert completion["choices"][0]["message"]["content"] == "hällo"
    assert (completion["id"], completion["usage"]["total_tokens"]) == ("chatcmpl-7", 5)
    lines = [line for line in write_chat_events(result, now=1, completion_id="7").split(b"\n\n") if line]
    assert lines[-1] == b"data: [DONE]"
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:2]] == [None, "length"]
    assert chunks[2]["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"messages":5}', b'{"messages":[5]}', b"[" * 100_000])
def test_a_body_that_is_no_chat_request_is_rejected(body: bytes) -> None:
    with pytest.raises(RejectedError, match="the body is no request for a chat completion"):
        parse_chat_request(body)

"""Whatever a client or a provider sends, the translation succeeds or raises one of its own errors."""

from __future__ import annotations

import contextlib
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import provider_scripts as scripts
from support.examples import sample

from llmstack.providers.errors import MalformedResponseError
from llmstack.providers.limits import ModelLimits
from llmstack.providers.translation import CannotTranslateError, translate

if TYPE_CHECKING:
    from llmstack.providers.catalog import Dialect
    from llmstack.providers.translation import TranslatedRequest

PAIRS: list[tuple[Dialect, Dialect]] = [
    ("chat", "messages"),
    ("messages", "chat"),
    ("responses", "chat"),
    ("responses", "messages"),
]
FULL_SCRIPT = scripts.Script(
    thinking="hm", pieces=("a", "ä"), calls=(("c", "f", {"x": 1}), ("d", "g", {})), stop="tool_calls"
)
END_MARKS = {"chat": b"[DONE]", "messages": b"message_stop", "responses": b"response.completed"}
WORDS = st.sampled_from(
    (
        *("messages", "input", "role", "user", "assistant", "tool", "system", "content", "type", "text"),
        *("image_url", "url", "tool_use", "id", "name", "tool_result", "tool_use_id", "source", "base64"),
        *("data", "function", "function_call", "arguments", "call_id", "output", "tools", "custom"),
        *("tool_choice", "namespace", "json_schema", "choices", "delta", "usage", "index", "tool_calls"),
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


def translated(client: Dialect, server: Dialect, body: dict[str, Any]) -> TranslatedRequest:
    return translate(json.dumps(body).encode(), client, server, model="m", limits=ModelLimits(), now=1)


def request(client: Dialect) -> dict[str, Any]:
    content = [{"role": "user", "content": "hi"}]
    return {"input": content} if client == "responses" else {"messages": content, "max_tokens": 5}


@pytest.mark.parametrize(("client", "server"), PAIRS)
@sample(40)
@given(items=st.lists(JSON, max_size=3), more=st.dictionaries(WORDS, JSON, max_size=3))
def test_requests_of_any_shape_are_translated_or_rejected(
    client: Dialect, server: Dialect, items: list[Any], more: dict[str, Any]
) -> None:
    with contextlib.suppress(CannotTranslateError):
        json.loads(
            translated(client, server, {**request(client), "messages": items, "input": items, **more}).body
        )


@pytest.mark.parametrize(("client", "server"), PAIRS)
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"null", b'{"messages": 5, "input": 5}', b"\xff", b"[" * 100_000]
)
def test_bodies_that_are_no_request_are_rejected(client: Dialect, server: Dialect, body: bytes) -> None:
    with pytest.raises(CannotTranslateError):
        translate(body, client, server, model="m", limits=ModelLimits(), now=1)


@pytest.mark.parametrize(("client", "server"), PAIRS)
@sample(40)
@given(answer=JSON, event=JSON)
def test_responses_of_any_shape_are_translated_or_malformed(
    client: Dialect, server: Dialect, answer: Any, event: Any
) -> None:
    request_translation = translated(client, server, request(client))
    with contextlib.suppress(MalformedResponseError):
        json.loads(request_translation.translate_response(json.dumps(answer).encode()))
    stream = request_translation.start_stream()
    with contextlib.suppress(MalformedResponseError):
        stream.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
        stream.close()


@pytest.mark.parametrize(("client", "server"), PAIRS)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_stream_is_translated_the_same_however_it_is_chunked(
    client: Dialect, server: Dialect, ending: str
) -> None:
    events = (
        scripts.anthropic_events(FULL_SCRIPT, "m")
        if server == "messages"
        else scripts.openai_events(FULL_SCRIPT, "m", usage=True)
    )
    data = b"".join(events).replace(b"\n", ending.encode())
    request_translation = translated(
        client, server, {**request(client), "stream": True, "stream_options": {"include_usage": True}}
    )
    one_chunk = request_translation.start_stream()
    expected = one_chunk.feed(data) + one_chunk.close()
    assert END_MARKS[client] in expected
    rng = random.Random(7)  # noqa: S311 - no secret
    for max_size in (1, 3, 50):
        stream, output, offset = request_translation.start_stream(), b"", 0
        while offset < len(data):
            size = rng.randint(1, max_size)
            output += stream.feed(data[offset : offset + size])
            offset += size
        output += stream.close()
        assert output.replace(b":\n\n", b"") == expected.replace(b":\n\n", b"")


@pytest.mark.parametrize(("client", "server"), PAIRS)
def test_a_stream_that_ends_early_is_never_complete(client: Dialect, server: Dialect) -> None:
    events = list(
        scripts.anthropic_events(FULL_SCRIPT, "m")
        if server == "messages"
        else scripts.openai_events(FULL_SCRIPT, "m", usage=True)
    )
    before_end = len(events) - (1 if server == "messages" else 3)  # of message_stop, or the finish reason
    for count in range(before_end + 1):
        stream = translated(client, server, {**request(client), "stream": True}).start_stream()
        output = stream.feed(b"".join(events[:count])) + stream.close()
        assert END_MARKS[client] not in output, count

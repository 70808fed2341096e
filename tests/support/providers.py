"""Hosted providers on this machine: they refuse what the real ones refuse, and remember what they got."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from anthropic.types.message_create_params import MessageCreateParamsStreaming as AnthropicParams
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as OpenaiParams
from support import google_native
from support import provider_scripts as scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Json = dict[str, Any]
# Version 2023-06-01 of the API has three parameters more than the SDK, which speaks 2026-10-21.
ANTHROPIC_PARAMS = {*AnthropicParams.__annotations__, "temperature", "top_p", "top_k"}
OPENAI_PARAMS = frozenset(OpenaiParams.__annotations__)
KEY = "sk-planted-key-0123456789"
# docs.mistral.ai/api, chat completion; without `stream_options`, which it refuses
MISTRAL_PARAMS = frozenset(
    (
        *("model", "messages", "stream", "tools", "tool_choice", "parallel_tool_calls", "max_tokens"),
        *("temperature", "top_p", "stop", "random_seed", "response_format", "presence_penalty"),
        *(
            "frequency_penalty",
            "n",
            "prediction",
            "prompt_mode",
            "safe_prompt",
            "metadata",
            "reasoning_effort",
        ),
    )
)
# The names that Google's OpenAI-compatible endpoint answers to; with any other one it answers 400. Sources:
# ai.google.dev/gemini-api/docs/openai, and what its users were refused: frequency_penalty, seed, top_k
GOOGLE_PARAMS = frozenset(
    (
        *("model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls"),
        *("max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop", "presence_penalty"),
        *("response_format", "reasoning_effort", "extra_body"),
    )
)


class RefusedError(Exception):
    """What the real service would answer with an error."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class FakeProvider:
    """One provider: its address, and the requests it got."""

    kind: str
    url: str = ""
    requests: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    fails: list[tuple[int, str]] = field(default_factory=list)  # status and retry-after of the next answers

    @property
    def last(self) -> Json:
        return self.requests[-1]


@contextmanager
def provider(kind: str) -> Iterator[FakeProvider]:  # noqa: C901 - a class that closes over the fake
    """Run one of `anthropic`, `openai`, `google`, `mistral`, `local`."""
    fake = FakeProvider(kind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.requests.append(body)
            fake.headers.append(headers)
            native = kind == "google" and ":" in self.path
            answer = {"anthropic": _anthropic, "google": _google if native else _chat}.get(kind, _chat)
            try:
                if fake.fails:
                    status, wait = fake.fails.pop(0)
                    self._fail(status, "try later", wait)
                    return
                script, stream, whole = answer(fake, self.path, headers, body)
            except RefusedError as refused:
                self._fail(refused.status, str(refused))
                return
            if script.status != 200:
                message = f"{scripts.SECRET_IN_ERROR}{KEY}" if script.status == 401 else "as you wished"
                self._fail(script.status, message, script.retry_after)
            elif body.get("stream") or ":stream" in self.path:
                self._stream(stream())
            else:
                self._send(200, whole())

        def _fail(self, status: int, message: str, retry_after: str = "") -> None:
            if kind == "google":  # in a list where the API is OpenAI's
                told = google_native.error(status, message, retry_after)
                self._send(status, told if ":" in self.path else [told])
                return
            error = scripts.anthropic_error if kind == "anthropic" else scripts.openai_error
            self._send(status, error(status, message), retry_after)

        def _send(self, status: int, body: Json | list[Json], retry_after: str = "") -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            if retry_after:
                self.send_header("retry-after", retry_after)
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, events: Iterator[bytes]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for event in events:
                self.wfile.write(event)
                self.wfile.flush()
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own name
            pass

    with running(Handler) as url:
        fake.url = url
        yield fake


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port; yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


Answer = tuple[scripts.Script, "Callable[[], Iterator[bytes]]", "Callable[[], Json]"]


def _require(condition: object, message: str, status: int = 400) -> None:
    if not condition:
        raise RefusedError(message, status)


def _anthropic(_fake: FakeProvider, path: str, headers: dict[str, str], body: Json) -> Answer:
    _require(path == "/v1/messages", f"no such path: {path}", 404)
    key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    _require(key == KEY, "invalid x-api-key", 401)
    _require(
        re.fullmatch(r"\d{4}-\d\d-\d\d", headers.get("anthropic-version", "")), "anthropic-version: required"
    )
    for name in body:
        _require(name in ANTHROPIC_PARAMS, f"{name}: Extra inputs are not permitted")
    for name in ("model", "max_tokens", "messages"):
        _require(name in body, f"{name}: Field required")
    model = body["model"]
    sampling = {"temperature", "top_p", "top_k"} & body.keys()
    _require(not (model.startswith("claude-opus") and sampling), "sampling parameters are not supported")
    both = "`temperature` and `top_p` cannot both be specified for this model."
    _require(not {"temperature", "top_p"} <= sampling, both)
    _require(0 <= body.get("temperature", 0) <= 1, "temperature: range: 0..1")
    effort = body.get("output_config", {}).get("effort")
    _require(not (effort and model.startswith("claude-haiku")), "This model does not support effort")
    for block in body.get("system") or ():
        _require(isinstance(block, str) or block["text"], "system: text content blocks must be non-empty")
    results = _check_turns(body)
    words = _last_words(body["messages"])
    script = scripts.script_for(words, [tool["name"] for tool in body.get("tools", ())], results=results)
    if body.get("tool_choice", {}).get("type") == "none":
        script.calls = ()
    return (
        script,
        lambda: scripts.anthropic_events(script, model),
        lambda: scripts.anthropic_answer(script, model),
    )


def _check_turns(body: Json) -> list[str]:
    """Check what the real service checks of a conversation; return the results of tools at its end."""
    called: set[str] = set()
    results: list[str] = []
    for number, turn in enumerate(body["messages"]):
        _require(turn["role"] in {"user", "assistant"}, f"messages.{number}.role: unexpected {turn['role']}")
        blocks = (
            turn["content"]
            if isinstance(turn["content"], list)
            else [{"type": "text", "text": turn["content"]}]
        )
        _require(blocks, f"messages.{number}: must have non-empty content")
        results = []
        answered = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        _require(
            answered == called, "`tool_use` ids were found without `tool_result` blocks immediately after"
        )
        called = set()
        for place, block in enumerate(blocks):
            if block["type"] == "text":
                _require(block["text"].strip(), "text content blocks must contain non-whitespace text")
            elif block["type"] == "tool_use":
                _require(body.get("tools"), "Requests which include `tool_use` must define tools")
                _require(re.fullmatch(r"[A-Za-z0-9_-]+", block["id"]), "tool_use.id: pattern")
                _require(
                    isinstance(block["input"], dict), "tool_use.input: Input should be a valid dictionary"
                )
                called.add(block["id"])
            elif block["type"] == "tool_result":
                before = all(earlier["type"] == "tool_result" for earlier in blocks[:place])
                _require(before, "tool_result blocks must come first")
                content = block.get("content", "")
                text = (
                    content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
                )
                results.append(text)
            elif block["type"] == "image":
                source = block["source"]
                fine = source["type"] == "url" or source["media_type"] in {"image/png", "image/jpeg"}
                _require(fine, "image.source.media_type")
    return results


def _chat(fake: FakeProvider, path: str, headers: dict[str, str], body: Json) -> Answer:
    root = "/v1beta/openai" if fake.kind == "google" else "/v1"
    _require(path == f"{root}/chat/completions", f"no such path: {path}", 404)
    key = "none" if fake.kind == "local" else KEY
    _require(headers.get("authorization") == f"Bearer {key}", "Incorrect API key provided", 401)
    takes = {"mistral": MISTRAL_PARAMS, "google": GOOGLE_PARAMS}.get(fake.kind, OPENAI_PARAMS)
    if fake.kind != "local":
        for name in body:
            _require(name in takes, f"Unrecognized request argument supplied: {name}")
    else:
        _require("reasoning_effort" not in body, "reasoning effort reached a local server")
    model = body["model"]
    if model.startswith("gpt-5"):
        _require("max_tokens" not in body, "Unsupported parameter: use 'max_completion_tokens' instead.")
        _require(body.get("temperature", 1) == 1, "'temperature' does not support this value")
    called: set[str] = set()
    results = []
    for message in body["messages"]:
        known = {"role", "content", "tool_calls", "tool_call_id", "name", "refusal"}
        _require(message.keys() <= known, f"messages: unexpected {message.keys() - known}")
        if message["role"] == "tool":
            _require(message["tool_call_id"] in called, "tool messages must follow a message with tool_calls")
            results.append(message["content"])
        else:
            results = []
            calls = message.get("tool_calls") or ()
            called = {call["id"] for call in calls}
            signed = (
                fake.kind != "google"
                or not calls
                or "thought_signature" in str(calls[0].get("extra_content"))
            )
            _require(signed, "Function call is missing a thought_signature in functionCall parts.")
    words = _last_words([message for message in body["messages"] if message["role"] == "user"])
    tools = [tool["function"]["name"] for tool in body.get("tools", ())]
    script = scripts.script_for(words, tools, results=results)
    usage = fake.kind == "mistral" or bool((body.get("stream_options") or {}).get("include_usage"))
    whole_calls = fake.kind in {"google", "mistral"}
    if fake.kind == "google" and script.thinking:  # counted, not shown
        script.thinking, script.usage["unseen"] = "", google_native.THOUGHT_TOKENS
    return (
        script,
        lambda: scripts.openai_events(script, model, usage=usage, whole_calls=whole_calls),
        lambda: scripts.openai_answer(script, model),
    )


def _google(_fake: FakeProvider, path: str, headers: dict[str, str], body: Json) -> Answer:
    """Answer as the API of Google's own, which only its SDK speaks here."""
    found = re.fullmatch(r"/v1(?:beta)?/models/([\w.-]+):(?:stream)?[gG]enerateContent(?:\?alt=sse)?", path)
    _require(found, f"no such path: {path}", 404)
    _require(headers.get("x-goog-api-key") == KEY, "API key not valid", 401)
    model = found[1] if found else ""
    meant = google_native.meant_natively(body)
    results = [part[2] for part in meant.turns[-1][1] if part[0] == "result"]
    words = "".join(part[1] for part in meant.turns[-1][1] if part[0] == "text")
    script = scripts.script_for(words, [name for name, *_ in meant.tools], results=results)
    return (
        script,
        lambda: google_native.events(script, model),
        lambda: google_native.answer(script, model),
    )


def _last_words(messages: list[Json]) -> str:
    content = messages[-1]["content"] if messages else ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or () if part["type"] == "text")

"""What made-up providers refuse, which is what the real ones refuse; and which answer they choose."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from anthropic.types.message_create_params import MessageCreateParamsStreaming as AnthropicParams
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as OpenaiParams
from support import google_native, ollama_native
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


Answer = tuple[scripts.Script, "Callable[[], Iterator[bytes]]", "Callable[[], Json]"]


def by_path(kind: str, path: str) -> Callable[[str, str, dict[str, str], Json], Answer]:
    """Return what reads a request: of a provider's own API, or of one that several have."""
    if path == ollama_native.PATH:
        return ollama
    if kind == "google" and ":" in path:
        return google
    return anthropic if kind == "anthropic" else chat


def _require(condition: object, message: str, status: int = 400) -> None:
    if not condition:
        raise RefusedError(message, status)


def anthropic(_kind: str, path: str, headers: dict[str, str], body: Json) -> Answer:
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


def chat(kind: str, path: str, headers: dict[str, str], body: Json) -> Answer:
    root = "/v1beta/openai" if kind == "google" else "/v1"
    _require(path == f"{root}/chat/completions", f"no such path: {path}", 404)
    local = kind in {"local", "ollama"}
    key = "none" if local else KEY
    _require(headers.get("authorization") == f"Bearer {key}", "Incorrect API key provided", 401)
    takes = {"mistral": MISTRAL_PARAMS, "google": GOOGLE_PARAMS}.get(kind, OPENAI_PARAMS)
    if not local:
        for name in body:
            _require(name in takes, f"Unrecognized request argument supplied: {name}")
    else:
        _require("reasoning_effort" not in body, "reasoning effort reached a local server")
    model = body["model"]
    _require(model != "gone", "model 'gone' not found", 404)
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
            interrupts = kind == "mistral" and results and message["role"] == "user"
            _require(not interrupts, "Unexpected role 'user' after role 'tool'")
            results = []
            calls = message.get("tool_calls") or ()
            called = {call["id"] for call in calls}
            signed = (
                kind != "google" or not calls or "thought_signature" in str(calls[0].get("extra_content"))
            )
            _require(signed, "Function call is missing a thought_signature in functionCall parts.")
    words = _last_words([message for message in body["messages"] if message["role"] == "user"])
    tools = [tool["function"]["name"] for tool in body.get("tools", ())]
    script = scripts.script_for(words, tools, results=results)
    usage = kind == "mistral" or bool((body.get("stream_options") or {}).get("include_usage"))
    whole_calls = kind in {"google", "mistral"}
    if kind == "google" and script.thinking:  # counted, not shown
        script.thinking, script.usage["unseen"] = "", google_native.THOUGHT_TOKENS
    thoughts = "reasoning" if kind == "ollama" else "reasoning_content"
    return (
        script,
        lambda: scripts.openai_events(script, model, usage=usage, whole_calls=whole_calls, thoughts=thoughts),
        lambda: scripts.openai_answer(script, model, thoughts=thoughts),
    )


def google(_kind: str, path: str, headers: dict[str, str], body: Json) -> Answer:
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


def ollama(_kind: str, _path: str, headers: dict[str, str], body: Json) -> Answer:
    """Answer as the API of Ollama's own."""
    _require("authorization" not in headers, "no key is set", 401)
    model = body["model"]
    _require(model != "gone", "model 'gone' not found", 404)
    results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    words = _last_words([message for message in body["messages"] if message["role"] == "user"])
    tools = [tool["function"]["name"] for tool in body.get("tools") or ()]
    script = scripts.script_for(words, tools, results=results)
    return (
        script,
        lambda: ollama_native.lines(script, model),
        lambda: ollama_native.answer(script, model),
    )


def _last_words(messages: list[Json]) -> str:
    content = messages[-1]["content"] if messages else ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or () if part["type"] == "text")

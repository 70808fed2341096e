"""What fake providers reject, as the real ones do, and which script they respond with."""

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
# Version 2023-06-01 of the API has three more parameters than the SDK, which uses 2026-10-21.
ANTHROPIC_PARAMS = {*AnthropicParams.__annotations__, "temperature", "top_p", "top_k"}
OPENAI_PARAMS = frozenset(OpenaiParams.__annotations__)
KEY = "sk-planted-key-0123456789"
# docs.mistral.ai/api, chat completion; without `stream_options`, which Mistral rejects
MISTRAL_PARAMS = frozenset(
    (
        *("model", "messages", "stream", "tools", "tool_choice", "parallel_tool_calls", "max_tokens"),
        *("temperature", "top_p", "stop", "random_seed", "response_format", "presence_penalty"),
        *("frequency_penalty", "n", "prediction", "prompt_mode", "safe_prompt", "metadata"),
        "reasoning_effort",
    )
)
# Parameters of Google's OpenAI-compatible endpoint, which responds with 400 to any other one. Sources:
# ai.google.dev/gemini-api/docs/openai, and users' reports about frequency_penalty, seed and top_k
GOOGLE_PARAMS = frozenset(
    (
        *("model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls"),
        *("max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop", "presence_penalty"),
        *("response_format", "reasoning_effort", "extra_body"),
    )
)


class RequestRefusedError(Exception):
    """The real service would respond with an error."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


CheckedRequest = tuple[scripts.Script, "Callable[[], Iterator[bytes]]", "Callable[[], Json]"]


def check_for(kind: str, path: str) -> Callable[[str, str, dict[str, str], Json], CheckedRequest]:
    """Return the check of requests for a path: of a provider's own API, or of a common one."""
    if path == ollama_native.PATH:
        return ollama
    if kind == "google" and ":" in path:
        return google
    return anthropic if kind == "anthropic" else chat


def _require(condition: object, message: str, status: int = 400) -> None:
    if not condition:
        raise RequestRefusedError(message, status)


def anthropic(_kind: str, path: str, headers: dict[str, str], body: Json) -> CheckedRequest:
    """Check a request of the Messages API."""
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
    not_both = "`temperature` and `top_p` cannot both be specified for this model."
    _require(not {"temperature", "top_p"} <= sampling, not_both)
    _require(0 <= body.get("temperature", 0) <= 1, "temperature: range: 0..1")
    effort = body.get("output_config", {}).get("effort")
    _require(not (effort and model.startswith("claude-haiku")), "This model does not support effort")
    for block in body.get("system") or ():
        _require(isinstance(block, str) or block["text"], "system: text content blocks must be non-empty")
    results = _check_turns(body)
    prompt = _last_prompt(body["messages"])
    script = scripts.script_for(prompt, [tool["name"] for tool in body.get("tools", ())], results=results)
    if body.get("tool_choice", {}).get("type") == "none":
        script.calls = ()
    return (
        script,
        lambda: scripts.anthropic_events(script, model),
        lambda: scripts.anthropic_answer(script, model),
    )


def _check_turns(body: Json) -> list[str]:
    """Check a conversation as the real service does; return the tool results at its end."""
    call_ids: set[str] = set()
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
        result_ids = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        _require(
            result_ids == call_ids, "`tool_use` ids were found without `tool_result` blocks immediately after"
        )
        call_ids = set()
        for index, block in enumerate(blocks):
            if block["type"] == "text":
                _require(block["text"].strip(), "text content blocks must contain non-whitespace text")
            elif block["type"] == "tool_use":
                _require(body.get("tools"), "Requests which include `tool_use` must define tools")
                _require(re.fullmatch(r"[A-Za-z0-9_-]+", block["id"]), "tool_use.id: pattern")
                _require(
                    isinstance(block["input"], dict), "tool_use.input: Input should be a valid dictionary"
                )
                call_ids.add(block["id"])
            elif block["type"] == "tool_result":
                comes_first = all(earlier["type"] == "tool_result" for earlier in blocks[:index])
                _require(comes_first, "tool_result blocks must come first")
                content = block.get("content", "")
                text = (
                    content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
                )
                results.append(text)
            elif block["type"] == "image":
                source = block["source"]
                is_valid = source["type"] == "url" or source["media_type"] in {"image/png", "image/jpeg"}
                _require(is_valid, "image.source.media_type")
    return results


def chat(kind: str, path: str, headers: dict[str, str], body: Json) -> CheckedRequest:
    """Check a request for a chat completion."""
    root = "/v1beta/openai" if kind == "google" else "/v1"
    _require(path == f"{root}/chat/completions", f"no such path: {path}", 404)
    is_local = kind in {"local", "ollama"}
    key = "none" if is_local else KEY
    _require(headers.get("authorization") == f"Bearer {key}", "Incorrect API key provided", 401)
    parameters = {"mistral": MISTRAL_PARAMS, "google": GOOGLE_PARAMS}.get(kind, OPENAI_PARAMS)
    if not is_local:
        for name in body:
            _require(name in parameters, f"Unrecognized request argument supplied: {name}")
    else:
        _require("reasoning_effort" not in body, "reasoning effort reached a local server")
    model = body["model"]
    _require(model != "gone", "model 'gone' not found", 404)
    if model.startswith("gpt-5"):
        _require("max_tokens" not in body, "Unsupported parameter: use 'max_completion_tokens' instead.")
        _require(body.get("temperature", 1) == 1, "'temperature' does not support this value")
    call_ids: set[str] = set()
    results = []
    for message in body["messages"]:
        members = {"role", "content", "tool_calls", "tool_call_id", "name", "refusal"}
        _require(message.keys() <= members, f"messages: unexpected {message.keys() - members}")
        if message["role"] == "tool":
            _require(
                message["tool_call_id"] in call_ids, "tool messages must follow a message with tool_calls"
            )
            results.append(message["content"])
        else:
            interrupts = kind == "mistral" and results and message["role"] == "user"
            _require(not interrupts, "Unexpected role 'user' after role 'tool'")
            results = []
            calls = message.get("tool_calls") or ()
            call_ids = {call["id"] for call in calls}
            is_signed = (
                kind != "google" or not calls or "thought_signature" in str(calls[0].get("extra_content"))
            )
            _require(is_signed, "Function call is missing a thought_signature in functionCall parts.")
    prompt = _last_prompt([message for message in body["messages"] if message["role"] == "user"])
    tools = [tool["function"]["name"] for tool in body.get("tools", ())]
    script = scripts.script_for(prompt, tools, results=results)
    usage = kind == "mistral" or bool((body.get("stream_options") or {}).get("include_usage"))
    sends_whole_calls = kind in {"google", "mistral"}
    if kind == "google" and script.thinking:  # Google counts thoughts, but does not send them
        script.thinking, script.usage["hidden"] = "", google_native.THOUGHT_TOKENS
    reasoning_key = "reasoning" if kind == "ollama" else "reasoning_content"
    return (
        script,
        lambda: scripts.openai_events(
            script, model, usage=usage, sends_whole_calls=sends_whole_calls, reasoning_key=reasoning_key
        ),
        lambda: scripts.openai_answer(script, model, reasoning_key=reasoning_key),
    )


def google(_kind: str, path: str, headers: dict[str, str], body: Json) -> CheckedRequest:
    """Check a request of Google's own API, which only Google's SDK sends."""
    match = re.fullmatch(r"/v1(?:beta)?/models/([\w.-]+):(?:stream)?[gG]enerateContent(?:\?alt=sse)?", path)
    _require(match, f"no such path: {path}", 404)
    _require(headers.get("x-goog-api-key") == KEY, "API key not valid", 401)
    model = match[1] if match else ""
    request = google_native.read_native_request(body)
    results = [part[2] for part in request.turns[-1][1] if part[0] == "result"]
    prompt = "".join(part[1] for part in request.turns[-1][1] if part[0] == "text")
    script = scripts.script_for(prompt, [name for name, *_ in request.tools], results=results)
    return (
        script,
        lambda: google_native.events(script, model),
        lambda: google_native.answer(script, model),
    )


def ollama(_kind: str, _path: str, headers: dict[str, str], body: Json) -> CheckedRequest:
    """Check a request of Ollama's own API."""
    _require("authorization" not in headers, "no key is set", 401)
    model = body["model"]
    _require(model != "gone", "model 'gone' not found", 404)
    results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    prompt = _last_prompt([message for message in body["messages"] if message["role"] == "user"])
    tools = [tool["function"]["name"] for tool in body.get("tools") or ()]
    script = scripts.script_for(prompt, tools, results=results)
    return (
        script,
        lambda: ollama_native.lines(script, model),
        lambda: ollama_native.answer(script, model),
    )


def _last_prompt(messages: list[Json]) -> str:
    content = messages[-1]["content"] if messages else ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or () if part["type"] == "text")

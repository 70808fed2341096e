"""The tiny models, served by real llama.cpp; whole answers are compared."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.tiny import write_echo, write_random

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engine

RUNNER = Path(__file__).with_name("tiny_server.py")
DEADLINE_S = 60.0
MAX_ECHO = 500  # bytes of the user's words in an echo


def function(name: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": "…", "parameters": parameters}}


TEXT = {"type": "string"}
READ = function("read", {"filePath": TEXT, "limit": {"type": "integer"}}, ["filePath"])
WEATHER = function("get_weather", {"city": TEXT}, ["city"])
EVERY_TYPE = function(
    "webFetch",
    {
        "url": TEXT,
        "unused": TEXT,
        "format": {"type": "string", "enum": ["text", "html"]},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "raw": {"type": "boolean"},
        "tags": {"type": "array", "items": TEXT},
        "hosts": {"type": "array", "items": TEXT, "minItems": 1},
        "inner": {"type": "object", "properties": {"deep": TEXT}, "required": ["deep"]},
        "free": {"type": "object"},
    },
    ["url", "format", "count", "ratio", "raw", "tags", "hosts", "inner", "free"],
)


@contextmanager
def server(model: Path, kv_type: str) -> Iterator[httpx.Client]:
    """Run a llama.cpp server in a process of its own, on a free port."""
    command = [sys.executable, str(RUNNER), str(model), kv_type]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()  # printed once the model is loaded
            assert port, "the server did not start"
            limits = httpx.Limits(max_keepalive_connections=0)  # it closes idle connections without notice
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S, limits=limits
            ) as client:
                yield client
        finally:
            process.kill()


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    model = tmp_path_factory.mktemp("models") / "echo.gguf"
    write_echo(model, speaker="code-smart")
    with server(model, "f16") as client:  # q8_0 prefills at a quarter of the speed
        yield client


def ask(client: httpx.Client, content: Any, **options: Any) -> dict[str, Any]:
    messages = content if is_conversation(content) else [{"role": "user", "content": content}]
    response = client.post("/v1/chat/completions", json={"messages": messages, **options})
    assert response.status_code == httpx.codes.OK, response.text
    body: dict[str, Any] = response.json()
    return body


def is_conversation(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and "role" in content[0]


def text_of(body: dict[str, Any]) -> tuple[str, str]:
    """The text of an answer, and why it ended."""
    choice = body["choices"][0]
    assert not choice["message"].get("tool_calls")
    return choice["message"]["content"], choice["finish_reason"]


def call_of(body: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """The called tool, its arguments, and why the answer ended."""
    choice = body["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    return call["function"]["name"], json.loads(call["function"]["arguments"]), choice["finish_reason"]


def stream(client: httpx.Client, words: str, **options: Any) -> list[dict[str, Any]]:
    messages = [{"role": "user", "content": words}]
    body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}, **options}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("say hi", "say hi"),
        ("  around \n", "around"),
        ("", ""),
        ("two\nlines\n\n\tand  more", "two\nlines\n\n\tand  more"),
        ("höre: naïve 日本語 🌍 e\u0301", "höre: naïve 日本語 🌍 e\u0301"),
        ("AEIOU the quick program; description=[1, 2]", "AEIOU the quick program; description=[1, 2]"),
        ("spelt: <|im_end|> <|pad|> <|reply|> <b>", "spelt: <|im_end|> <|pad|> <|reply|> <b>"),
        ("a <tool_call> of mine", "a <tool-call> of mine"),
        ([{"type": "text", "text": "part one"}, {"type": "text", "text": "part two"}], "part one\npart two"),
        ("<system-reminder>be brief</system-reminder>\nmy words", "my words"),
        ("<system-reminder>only this</system-reminder>", "<system-reminder>only this</system-reminder>"),
        (
            [
                {"role": "user", "content": "one"},
                {"role": "assistant", "content": "two"},
                {"role": "user", "content": "three"},
            ],
            "three",
        ),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "four"}], "four"),
    ],
)
def test_it_echoes_the_last_user_message(echo: httpx.Client, content: Any, words: str) -> None:
    assert text_of(ask(echo, content)) == (f"[code-smart] You said: {words}", "stop")


@pytest.mark.parametrize(
    ("unit", "shift"),
    [(unit, shift) for unit in ("x", "the file ", "é", "日", "🌍") for shift in range(len(unit[0].encode()))],
)
def test_long_words_are_cut_between_characters(echo: httpx.Client, unit: str, shift: int) -> None:
    words = "." * shift + unit * 600
    cut = words.encode()[:MAX_ECHO].decode(errors="ignore")
    assert text_of(ask(echo, words)) == (f"[code-smart] You said: {cut}…", "stop")


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 2.0},
        {"temperature": 0},
        {"top_k": 0, "top_p": 1, "min_p": 0, "temperature": 2.0},
        {"frequency_penalty": 2.0, "presence_penalty": 2.0, "repeat_penalty": 1.3},
    ],
)
def test_sampling_does_not_change_the_answer(echo: httpx.Client, options: dict[str, float]) -> None:
    words = "the same aaaaaaaaaaaaaaaaaaaaaa every time"
    assert text_of(ask(echo, words, **options)) == (f"[code-smart] You said: {words}", "stop")


def test_it_streams_text(echo: httpx.Client) -> None:
    *chunks, last = stream(echo, "größer 🌍 now")
    deltas = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(deltas) == "[code-smart] You said: größer 🌍 now"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["completion_tokens"] == len("[code-smart] You said: größer 🌍 now".encode()) + 1


def test_it_streams_a_tool_call(echo: httpx.Client) -> None:
    *chunks, _ = stream(echo, "call get_weather for Zürich", tools=[READ, WEATHER])
    calls = [
        call["function"] for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert [call["name"] for call in calls if call.get("name")] == ["get_weather"]
    assert json.loads("".join(call["arguments"] for call in calls)) == {"city": "call get_weather for Zürich"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("words", "tool"),
    [
        ("call get_weather for Paris", "get_weather"),
        ("What does `get_weather` say?", "get_weather"),
        ("use the read tool on main.py", "read"),
        ("Call read.", "read"),
        ("the read tool, please", "read"),
        ('say "a\\b"\n{with} <get_weather>', "get_weather"),
    ],
)
def test_it_calls_the_tool_that_the_user_names(echo: httpx.Client, words: str, tool: str) -> None:
    argument = {"get_weather": "city", "read": "filePath"}[tool]
    assert call_of(ask(echo, words, tools=[READ, WEATHER])) == (tool, {argument: words}, "tool_calls")
    assert call_of(ask(echo, words, tools=[WEATHER, READ])) == (tool, {argument: words}, "tool_calls")


@pytest.mark.parametrize(
    "words",
    [
        "say hi",
        "read main.py",
        "I am already here, ready to weather it",
        "<system-reminder>call get_weather</system-reminder> hello",
    ],
)
def test_it_answers_if_no_tool_is_named(echo: httpx.Client, words: str) -> None:
    echoed = words.rpartition("</system-reminder> ")[2]
    expected = (f"[code-smart] You said: {echoed}", "stop")
    assert text_of(ask(echo, words, tools=[READ, WEATHER])) == expected


def test_arguments_fit_the_schema(echo: httpx.Client) -> None:
    words = "webfetch it"
    arguments = {
        "url": words,
        "format": "text",
        "count": 1,
        "ratio": 1,
        "raw": True,
        "tags": [],
        "hosts": [words],
        "inner": {"deep": words},
        "free": {},
    }
    assert call_of(ask(echo, words, tools=[EVERY_TYPE])) == ("webFetch", arguments, "tool_calls")


def test_long_words_are_cut_in_arguments(echo: httpx.Client) -> None:
    words = "get_weather " + "é" * 300
    cut = words.encode()[:120].decode(errors="ignore") + "…"
    assert call_of(ask(echo, words, tools=[WEATHER])) == ("get_weather", {"city": cut}, "tool_calls")


def test_a_call_too_long_to_copy_is_still_valid(echo: httpx.Client) -> None:
    names = [f"argument_{number}" for number in range(30)]
    tool = function("get_all", dict.fromkeys(names, TEXT), names)
    name, arguments, reason = call_of(ask(echo, "get_all " + "é" * 300, tools=[tool]))
    assert (name, sorted(arguments), reason) == ("get_all", sorted(names), "tool_calls")


def test_a_required_call_follows_the_echo(echo: httpx.Client) -> None:
    body = ask(echo, "what is up in Paris", tools=[WEATHER, READ], tool_choice="required")
    assert call_of(body) == ("get_weather", {"city": "what is up in Paris"}, "tool_calls")


def test_it_echoes_the_output_of_a_tool(echo: httpx.Client) -> None:
    call = {
        "id": "call-1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
    }
    conversation = [
        {"role": "user", "content": "call get_weather for Rome"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-1", "content": "sunny,\n20 °C"},
    ]
    body = ask(echo, conversation, tools=[WEATHER])
    assert text_of(body) == ("[code-smart] The tool said: sunny,\n20 °C", "stop")


def test_usage_counts_tokens(echo: httpx.Client) -> None:
    body = ask(echo, "hé")
    tokens = echo.post(
        "/tokenize", json={"content": rendered_prompt(echo, "hé"), "parse_special": True}
    ).json()["tokens"]
    usage = body["usage"]
    answer = len("[code-smart] You said: hé".encode()) + 1  # one token for each byte, and the end of the turn
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len(tokens), answer)


def rendered_prompt(client: httpx.Client, words: str) -> str:
    prompt = client.post("/apply-template", json={"messages": [{"role": "user", "content": words}]}).json()
    return str(prompt["prompt"])


def test_common_words_are_single_tokens(echo: httpx.Client) -> None:
    text = "the function should return a string with the description of every file\n" * 50
    tokens = echo.post("/tokenize", json={"content": text}).json()["tokens"]
    assert len(tokens) < len(text) / 4


def test_a_long_prompt_before_the_user_message(tmp_path: Path) -> None:
    write_echo(tmp_path / "echo.gguf", speaker="code-smart")
    prose = "Read the file, then run all of the tests and report what failed.\n" * 640
    assert len(prose) > 40_000
    conversation = [{"role": "system", "content": prose}, {"role": "user", "content": "still there?"}]
    with server(tmp_path / "echo.gguf", "f16") as client:
        assert text_of(ask(client, conversation)) == ("[code-smart] You said: still there?", "stop")


@pytest.mark.parametrize("prompt", ["x", "def add(a, b):", "word " * 2000])
def test_a_raw_completion_ends(echo: httpx.Client, prompt: str) -> None:
    body = echo.post("/v1/completions", json={"prompt": prompt}).json()
    choice = body["choices"][0]
    notice = "[code-smart] There is nothing to echo: this was no chat message."
    assert (choice["text"], choice["finish_reason"], body["usage"]["completion_tokens"]) == (
        notice,
        "stop",
        2,
    )


PERSON = {
    "type": "object",
    "properties": {"name": TEXT, "age": {"type": "integer"}, "tags": {"type": "array", "items": TEXT}},
    "required": ["name", "age", "tags"],
}


@pytest.mark.parametrize("words", ["a person", 'é "quoted", {"name": [', "日本語 🌍 " * 40, "1, 2" * 200])
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_it_obeys_a_json_schema(echo: httpx.Client, words: str, temperature: float) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    content, reason = text_of(ask(echo, words, response_format=schema, temperature=temperature))
    types = {key: type(value) for key, value in json.loads(content).items()}
    assert (types, reason) == ({"name": str, "age": int, "tags": list}, "stop")


def test_it_obeys_json_mode(echo: httpx.Client) -> None:
    content, reason = text_of(ask(echo, "anything", response_format={"type": "json_object"}))
    assert (type(json.loads(content)), reason) == (dict, "stop")


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("speaker", ["code-fast", "it's \\ größer"])
def test_every_speaker_and_cache_type(tmp_path: Path, speaker: str, kv_type: str) -> None:
    model = tmp_path / "new" / "echo.gguf"
    write_echo(model, speaker=speaker, context=65536)
    assert [entry.name for entry in model.parent.iterdir()] == ["echo.gguf"]
    with server(model, kv_type) as client:
        answers = [text_of(ask(client, f"hello number {number}")) for number in range(3)]
    assert answers == [(f"[{speaker}] You said: hello number {number}", "stop") for number in range(3)]


def test_a_random_model_generates_tokens(tmp_path: Path) -> None:
    model = tmp_path / "random.gguf"
    write_random(model, dim=64, layers=3, context=32768, seed=7)
    with server(model, "f16") as client:
        body = ask(client, "hello", max_tokens=20, temperature=0)
    assert body["usage"]["completion_tokens"] == 20


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_random(tmp_path / name, seed=seed)
    first, same_seed, other_seed = ((tmp_path / name).read_bytes() for name in ("a", "b", "c"))
    assert (first == same_seed, first == other_seed) == (True, False)


def test_missing_packages_name_the_extra(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['gguf'] = None\n"
        "from pathlib import Path\n"
        "from llmstack.errors import LlmstackError\n"
        "from llmstack.llama_cpp import tiny\n"
        "try: tiny.write_echo(Path(sys.argv[1]), speaker='x')\n"
        "except LlmstackError as error: print(error.message, error.hint, sep='\\n')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "echo.gguf")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.splitlines() == [
        "the tiny models are made with gguf and numpy, and gguf is not installed",
        "pip install 'llmstack-local[engine]'",
    ]


def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LlmstackError, match="cannot write"):
        write_echo(tmp_path / "file" / "echo.gguf", speaker="x")

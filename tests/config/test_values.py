from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmstack.config import schema, values
from llmstack.config.model import BackendKind, HostedModel, Role, RopeScaling, Sampler
from llmstack.kv_types import KV_TYPES

if TYPE_CHECKING:
    from llmstack.config.values import Parser

EVERY_KEY: dict[str, Parser] = schema.DEFAULT | schema.ROUTING | schema.TIER


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("ctx_size", "64k", 65536),
        ("ctx_size", "128K", 131072),
        ("ctx_size", "131072", 131072),
        ("ctx_size", "1m", 1048576),
        ("high_fidelity_ceiling", "0", 0),
        ("ttl", "0", 0.0),
        ("ttl", "90", 90.0),
        ("ttl", "90s", 90.0),
        ("ttl", "20m", 1200.0),
        ("ttl", "1.5H", 5400.0),
        ("jinja", "true", True),
        ("jinja", "Off", False),
        ("sticky", "1", True),
        ("parallel", "4", 4),
        ("threads", "-1", -1),
        ("n_gpu_layers", "auto", None),
        ("n_gpu_layers", "999", 999),
        ("cache_ram_gb", "0.06", 0.06),
        ("cache_ram_gb", ".5", 0.5),
        ("router_port", "65535", 65535),
        ("flash_attn", "ON", "on"),
        ("swapper", "llama-swap", "llama-swap"),
        ("while_loading", "resident", "resident"),
        ("role", "plan-uncensored", Role.PLAN_UNCENSORED),
        ("backend", "mcp", BackendKind.MCP),
        ("tier", "code", "code"),
        ("host", "0.0.0.0", "0.0.0.0"),  # noqa: S104 - parsed, not bound
        ("host", "::1", "::1"),
        ("allowed_hosts", "host.docker.internal, 10.0.0.5", ("host.docker.internal", "10.0.0.5")),
        ("api_key_env", "MY_KEY", "MY_KEY"),
        ("aliases", "agent, gpt-4o, openai/gpt-4o:latest", ("agent", "gpt-4o", "openai/gpt-4o:latest")),
        ("ultra_triggers", "[ultra], think hard:", ("[ultra]", "think hard:")),
        ("sampler", "temp=0.2", Sampler(temp=0.2)),
        (
            "sampler",
            "temp=0.2, top_p=0.9, top_k=20, min_p=0.05, rep_pen=1.05",
            Sampler(0.2, 0.9, 20, 0.05, 1.05),
        ),
        ("sampler", "min_p = 0", Sampler(min_p=0.0)),
        ("rope_scaling", "yarn(scale=4, orig_ctx=32768)", RopeScaling("yarn", 4.0, 32768)),
        ("rope_scaling", "linear (orig_ctx=8k,scale=2.5)", RopeScaling("linear", 2.5, 8192)),
        ("extra_args", "--no-warmup --grammar 'a b'", ("--no-warmup", "--grammar", "a b")),
        ("command", 'npx "my server" --flag', ("npx", "my server", "--flag")),
        ("tool", "ask_model", "ask_model"),
        ("hf_repo", "unsloth/Qwen3-Coder-Next-GGUF", "unsloth/Qwen3-Coder-Next-GGUF"),
        ("hf_file", "UD-Q4/model-00001-of-00002.gguf", "UD-Q4/model-00001-of-00002.gguf"),
        ("path", "models/x.gguf", Path("models/x.gguf")),
        ("quant", "i1-Q4_K_M", "i1-Q4_K_M"),
        ("size_gb", "18.6", 18.6),
        ("model", "anthropic/claude-opus-4-6", HostedModel("anthropic", "claude-opus-4-6")),
        ("model", "ollama/qwen3:30b", HostedModel("ollama", "qwen3:30b")),
        ("model", "bedrock/eu.anthropic/x", HostedModel("bedrock", "eu.anthropic/x")),
        ("base_url", "http://10.0.0.5:8000/v1/", "http://10.0.0.5:8000/v1"),
        *(("cache_type_k", kind, kind) for kind in KV_TYPES),
    ],
)
def test_a_valid_value_is_parsed(key: str, text: str, value: Any) -> None:
    assert EVERY_KEY[key](text) == value


def test_a_path_may_start_with_a_tilde() -> None:
    assert EVERY_KEY["path"]("~/x.gguf") == Path.home() / "x.gguf"


SIZES = ("64k", "65536")
SERVER_URL = ("http://127.0.0.1:8080",)


@pytest.mark.parametrize(
    ("key", "text", "expected", "suggestions", "got"),
    [
        ("ctx_size", "64kb", "a size", SIZES, None),
        ("ctx_size", "64 k", "a size", SIZES, None),
        ("ctx_size", "32 thousand", "a size", ("32k", "32768"), None),
        ("ctx_size", "a lot", "a size", SIZES, None),
        ("ctx_size", "-1", "a size", SIZES, None),
        ("ctx_size", "1.5k", "a size", SIZES, None),
        ("ctx_size", "64", "a size from 256 to 104857600", SIZES, None),
        ("ctx_size", "\u0666\u0664k", "a size", SIZES, None),
        ("ctx_size", "9" * 5000, "a size", SIZES, None),
        ("ttl", "20 min", "a duration", ("20m", "1200"), None),
        ("ttl", "-1", "a duration", ("20m", "1200"), None),
        ("jinja", "ture", "`true` or `false`", ("true",), None),
        ("parallel", "0", "a whole number from 1 to 256", (), None),
        ("parallel", "2.0", "a whole number from 1 to 256", (), None),
        ("router_port", "65536", "a whole number from 1 to 65535", (), None),
        ("n_gpu_layers", "-1", "`auto` or a whole number from 0 to 9999", ("auto", "999"), None),
        ("memory_gb", "nan", "a number from 0.001 to 1e+06", (), None),
        ("memory_gb", "0", "a number from 0.001 to 1e+06", (), None),
        ("memory_gb", "48GB", "a number from 0.001 to 1e+06", (), None),
        ("flash_attn", "onn", "`on`, `off` or `auto`", ("on",), None),
        ("role", "agnet", "`fast`, `agent`, `ultra`, `plan` or `plan-uncensored`", ("agent",), None),
        ("backend", "zzz", "`gguf`, `litellm`, `server` or `mcp`", (), None),
        ("host", "http://x", "an address or host name without `http://` and port", ("127.0.0.1",), None),
        ("host", "127.0.0.1:80", "an address or host name without `http://` and port", ("127.0.0.1",), None),
        ("host", "127.0.0.256", "an address or host name without `http://` and port", ("127.0.0.1",), None),
        ("allowed_hosts", "a, b c", "an address or host name without `http://` and port", (), "b c"),
        ("api_key_env", "$KEY", "the name of an environment variable", (), None),
        ("ultra_triggers", "a,,b", "a list with something between its commas", (), None),
        ("ultra_triggers", "a, b, a", "each item once", (), "a"),
        (
            "aliases",
            "good, bad one",
            "names of letters, digits and `. _ - / :`, 64 characters at most",
            (),
            "bad one",
        ),
        ("sampler", "temp=0.2, top_p=3", "a number from 0 to 1 for `top_p`", (), "top_p=3"),
        ("sampler", "temp", "a number from 0 to 5 for `temp`", (), "temp"),
        ("sampler", "temp=0.2, temp=0.3", "`temp` once", (), "temp=0.3"),
        (
            "sampler",
            "top_p=0.9, tmp=0.2",
            "`temp`, `top_p`, `top_k`, `min_p` or `rep_pen` with `=` and a number",
            ("top_p=0.9, temp=0.2",),
            "tmp=0.2",
        ),
        ("rope_scaling", "4", "`yarn(…)` or `linear(…)`", ("yarn(scale=4, orig_ctx=32768)",), None),
        (
            "rope_scaling",
            "yarn(scale=4)",
            "both `scale` and `orig_ctx`",
            ("yarn(scale=4, orig_ctx=32768)",),
            None,
        ),
        ("rope_scaling", "yarn(scale=4, orig_ctx=32kb)", "a size for `orig_ctx`", (), "orig_ctx=32kb"),
        ("rope_scaling", "yarn()", "a list with something between its commas", (), None),
        ("extra_args", "--a 'b", "arguments with every quote closed", (), None),
        ("command", "'' x", "a program and its arguments", ("llmstack mcp",), None),
        ("tool", "two words", "the name of one of the server's tools", (), None),
        ("hf_repo", "Qwen", "a repository such as `owner/name-GGUF`", (), None),
        ("hf_repo", "../x", "a repository such as `owner/name-GGUF`", (), None),
        ("hf_file", "model.bin", "the name of a `.gguf` file in the repository", (), None),
        ("hf_file", "../../x.gguf", "the name of a `.gguf` file in the repository", (), None),
        ("hf_file", "/etc/x.gguf", "the name of a `.gguf` file in the repository", (), None),
        ("hf_file", "a\\..\\x.gguf", "the name of a `.gguf` file in the repository", (), None),
        ("path", '"x.gguf"', "a path without quotes", (), None),
        ("path", "~no-such-user-here/x", "a path below a home directory that exists", (), None),
        ("quant", "Q4 K M", "a quantisation such as `Q4_K_M`", (), None),
        ("model", "opus", "`<provider>/<id>`", ("anthropic/sonnet", "ollama/qwen3"), None),
        ("model", "/x", "`<provider>/<id>`", ("anthropic/sonnet", "ollama/qwen3"), None),
        ("model", "ollama/", "the name of a model after `ollama/`", (), None),
        ("model", "ollama/two words", "the name of a model after `ollama/`", (), None),
        ("model", "lmstudio/x", "the prefix `lm_studio/`", ("lm_studio/x",), None),
        ("model", "llama.cpp/", "the prefix `llamacpp/`", ("llamacpp/<id>",), None),
        ("model", "openai-compat/x", "another prefix (`openai-compat/` is reserved)", ("openai/x",), None),
        ("base_url", "localhost:11434", "an address", SERVER_URL, None),
        ("base_url", "ftp://x", "an address", SERVER_URL, None),
        ("base_url", "http://x:99999", "an address", SERVER_URL, None),
        ("base_url", "http://[::1", "an address", SERVER_URL, None),
        ("base_url", "http://x/v1?key=1", "an address", SERVER_URL, None),
        (
            "cache_type_k",
            "q8",
            "`f32`, `f16`, `bf16`, `q8_0`, `q4_0`, `q4_1`, `iq4_nl`, `q5_0` or `q5_1`",
            ("q8_0",),
            None,
        ),
    ],
)
def test_an_invalid_value_says_what_was_expected(
    key: str, text: str, expected: str, suggestions: tuple[str, ...], got: str | None
) -> None:
    with pytest.raises(values.BadValueError) as caught:
        EVERY_KEY[key](text)
    assert (caught.value.expected, caught.value.suggestions, caught.value.got) == (expected, suggestions, got)


def test_every_suggested_value_is_valid() -> None:
    for key, text in [
        ("ctx_size", "999 x"),
        ("ttl", "x"),
        ("role", "fats"),
        ("sampler", "tmp=1"),
        ("host", "/"),
    ]:
        with pytest.raises(values.BadValueError) as caught:
            EVERY_KEY[key](text)
        assert caught.value.suggestions
        for suggestion in caught.value.suggestions:
            EVERY_KEY[key](suggestion)
